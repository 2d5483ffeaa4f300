"""Checks of masks and of the options of the losses that take them."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.checks import (
    check_choice,
    check_constant,
    check_device,
    check_finite,
    check_shape,
    check_tensor,
    is_readable,
)
from ansm_fast.ops.dtypes import FLOATING

REDUCTIONS = ("none", "sum", "mean")
_WEIGHTS = ("weight_adv", "weight_orig", "bce_weight", "dice_weight")
# How far outside [0, 1] a soft mask may lie, as blurring and resizing leave it; kSlack in
# kernels/common/mask_values.h.
SLACK = 1 / 128
# The largest integer up to which a type holds every one, compared in at least float32.
_WHOLE_UP_TO = {torch.float16: 2**11, torch.bfloat16: 2**8}


def check_pos_weight(value: Any) -> None:
    """None, a finite number >= 0, or a tensor of one; values on a device are left unread."""
    if value is None:
        return
    if not isinstance(value, Tensor):
        check_finite("pos_weight", value, 0)
        return
    if value.numel() != 1:
        raise ValueError(
            f"pos_weight must be a number or a tensor of one element, got {tuple(value.shape)}"
        )
    if value.dtype == torch.bool or value.is_complex():
        raise TypeError(f"pos_weight must be a real number, got a tensor of {value.dtype}")
    check_constant("pos_weight", value, "loss")
    if is_readable(value):
        check_finite("pos_weight", value.item(), 0)


def check_ignore_index(value: Any) -> int | None:
    if value is None or (isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool)):
        return value  # type: ignore[return-value]
    try:
        if isinstance(value, (bool, Tensor)):
            raise TypeError
        return operator.index(value)  # an integer of NumPy's
    except TypeError:
        raise TypeError(
            f"ignore_index must be an int or None, got {value!r} ({type(value).__name__})"
        ) from None


def check_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options that a loss keeps, an integer of NumPy's as one of Python."""
    check_choice("reduction", options["reduction"], REDUCTIONS)
    for name in _WEIGHTS:
        if name in options:
            check_finite(name, options[name])
    if "smooth" in options:
        check_finite("smooth", options["smooth"], 0)
    check_pos_weight(options["pos_weight"])
    given = options["ignore_index"]
    index = check_ignore_index(given)
    return options if index is given else options | {"ignore_index": index}


def _check_label(name: str, mask: Tensor, ignore_index: int) -> None:
    """A label that the mask's type cannot hold is one that was lost on the way."""
    if mask.dtype == torch.bool:
        return
    if mask.dtype == torch.uint8:
        if not 0 <= ignore_index <= 255:
            raise ValueError(
                f"ignore_index must be in 0..255 for the uint8 {name}, got {ignore_index}; "
                "a -1 becomes 255 there"
            )
        return
    largest = _WHOLE_UP_TO.get(mask.dtype, 2**24)
    if abs(ignore_index) > largest:
        raise ValueError(
            f"ignore_index must be in -{largest}..{largest} for a {name} of {mask.dtype}, "
            f"got {ignore_index}; use another label"
        )


def check_mask(name: str, mask: Any, logits: Tensor, ignore_index: int | None) -> None:
    """A mask (or target, without ``ignore_index``) for the logits."""
    if mask is None:
        return
    check_tensor(name, mask)
    shape = logits.shape
    if mask.shape != shape and shape[1:2] == (1,) and mask.shape == shape[:1] + shape[2:]:
        raise ValueError(
            f"{name} must have the shape of the logits, {tuple(shape)}, got "
            f"{tuple(mask.shape)}; add the channel with {name}.unsqueeze(1)"
        )
    check_shape(name, mask, "the logits", logits)
    if mask.dtype not in (torch.bool, torch.uint8, *FLOATING):
        # bool() would make a forged pixel of an ignored one.
        how = "bool" if ignore_index is None else "float"
        raise TypeError(
            f"{name} must be bool, uint8 or floating in [0, 1], got {mask.dtype}; "
            f"convert it with {name}.{how}()"
        )
    check_constant(name, mask, "loss")
    if ignore_index is not None:
        _check_label(name, mask, ignore_index)


def check_pos_weight_device(value: Any, logits: Tensor) -> None:
    """A tensor on the CPU serves logits of every device."""
    if isinstance(value, Tensor) and value.device.type != "cpu":
        check_device("pos_weight", value, "the logits", logits)


def explain_nan(
    loss: Tensor, masks: dict[str, tuple[Tensor | None, Tensor]], ignore_index: int | None
) -> None:
    """Raises where the loss is NaN since a mask holds what is no probability.

    Nothing is read but a loss on the CPU, and the masks only where it is NaN.

    Args:
        masks: by name, the mask or target and the mask that says which of its pixels count.
    """
    floating = {
        name: (values, mask)
        for name, (values, mask) in masks.items()
        if values is not None and values.is_floating_point()
    }
    if not floating or not is_readable(loss):
        return
    result = loss.detach()
    if not (math.isnan(result.item()) if result.dim() == 0 else bool(result.isnan().any())):
        return
    for name, (values, mask) in floating.items():
        kept = values if ignore_index is None else values[mask != ignore_index]
        if bool(((kept >= -SLACK) & (kept <= 1 + SLACK)).all()):
            continue
        low, high = float(kept.min()), float(kept.max())
        apart = "" if ignore_index is None else f" or {ignore_index} (ignore_index)"
        if math.isnan(low):
            found, advice = "NaN", "it comes from what made the mask"
        else:
            found = f"values from {low:g} to {high:g}"
            advice = f"pass {name}.clamp(0, 1)"
            if low >= 0 and 1 + SLACK < high <= 255:
                advice = f"pass {name} / 255 if 255 means forged, or name a label to ignore"
        raise ValueError(f"{name} must be in [0, 1]{apart}, got {found}; {advice}")
