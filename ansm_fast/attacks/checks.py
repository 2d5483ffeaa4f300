"""What an attack is given, and what its victim answers: seen to before anything is computed."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable

import torch
from torch import Tensor

from ansm_fast.attacks.graph import may_be_probabilities
from ansm_fast.attacks.objectives import MASK_WAY_OUT
from ansm_fast.attacks.victim import find_modules
from ansm_fast.errors import LocalizerError
from ansm_fast.ops.checks import (
    check_budget,
    check_choice,
    check_number,
    check_same,
    check_tensor,
)
from ansm_fast.ops.value_range import check_image_range, check_unit_range, value_range

Budget = float | Tensor
LocalizerFunction = Callable[[Tensor], Tensor]

NO_GRADIENT = (
    "the localizer's logits {fact}, so that no gradient attack can work; look for detach(), "
    "torch.no_grad(), inference_mode(), numpy, round(), argmax() or a threshold in the model or "
    "around it, and give the logits as they are before that"
)
INFINITE = (
    "logits from torch.logit of a probability that is 0 or 1 are infinite: give "
    "WrappedLocalizer(model, logits_from='probabilities') instead"
)


def check_image(image: Tensor) -> Tensor:
    """Check a floating (B, C, H, W) image in [0, 1] and cut it off from its graph; a few ulps are
    clamped.

    Raises:
        TypeError: no tensor. ValueError: anything else.
    """
    if not isinstance(image, list | tuple):
        check_tensor("image", image)
    else:
        raise TypeError(
            f"image must be a tensor (B, 3, H, W), got {type(image).__name__}; attack images of "
            "different sizes one by one, each as image.unsqueeze(0)"
        )
    if image.dim() != 4 or not image.is_floating_point():
        hint = ""
        if image.dim() == 3:
            hint = "; add a batch dimension with image.unsqueeze(0)"
        elif not image.is_floating_point():
            hint = "; convert 8-bit values with image.float() / 255"
        raise ValueError(
            f"image must be floating (B, C, H, W), got {image.dtype} {tuple(image.shape)}{hint}"
        )
    if image.shape[1] != 3 and image.shape[3] == 3:
        raise ValueError(
            f"image must be (B, 3, H, W), got {tuple(image.shape)}; "
            "put channels first with image.permute(0, 3, 1, 2)"
        )
    check_image_range(image)
    return image.detach().clamp(0, 1)


def widened(image: Tensor) -> Tensor:
    """Convert an image of half precision to float32, in which steps of a part of a grey level add
    up."""
    return image.float() if image.dtype in (torch.float16, torch.bfloat16) else image


def check_mask(name: str, mask: Tensor, image: Tensor) -> Tensor:
    """Check the mask of an image, with values in [0, 1]: bool and whole numbers are forged where
    not 0.

    Raises:
        TypeError: no tensor. ValueError: another shape or device, or real numbers outside [0, 1].
    """
    expected = (image.shape[0], 1, *image.shape[2:])
    check_tensor(name, mask)
    if tuple(mask.shape) != expected:
        hint = ""
        if tuple(mask.shape) == (expected[0], *expected[2:]):
            hint = f"; add the channel with {name}.unsqueeze(1)"
        raise ValueError(f"{name} must have shape {expected}, got {tuple(mask.shape)}{hint}")
    if mask.device != image.device:
        raise ValueError(
            f"{name} must be on the image's device {image.device}, got {mask.device}; "
            f"move it with {name}.to(image.device)"
        )
    if not mask.is_floating_point():
        return (mask != 0).to(image.dtype)
    check_unit_range(name, mask, MASK_WAY_OUT)
    return mask.detach().clamp(0, 1)


def check_counts(eps: Budget, steps: int, eot: int, norm: str, image: Tensor | None = None) -> None:
    """Raise ValueError or TypeError for a norm, a budget, a number of steps or of evaluations that
    cannot be; only beside an ``image`` may there be a budget a sample."""
    check_choice("norm", norm, ("linf", "l2"))
    lowest, highest = eps, eps
    if isinstance(eps, Tensor) and image is not None:
        check_budget("eps", eps, image)
    else:
        check_number("eps", eps)
    if isinstance(eps, Tensor):
        lowest, highest = (float(v) for v in (eps.min(), eps.max())) if eps.numel() else (0.0, 0.0)
    if not lowest >= 0:
        raise ValueError(f"eps must be >= 0, got {lowest}")
    if norm == "linf" and not highest <= 1:
        raise ValueError(f"eps must be in [0, 1], got {highest}; four grey levels are 4/255")
    for name, value in (("steps", steps), ("eot", eot)):
        if not isinstance(value, numbers.Integral):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}")


def check_localizer(localizer: object) -> None:
    """Raise TypeError for what cannot be called with an image: nothing, a name, or a class."""
    if isinstance(localizer, type) or not callable(localizer):
        found = f"the class {localizer.__name__}" if isinstance(localizer, type) else None
        raise TypeError(
            "localizer must be a module or a function of an image, got "
            f"{found or type(localizer).__name__}; give an instance, as load_localizer() gives one"
        )


def check_start(start: Tensor | None, image: Tensor) -> Tensor:
    """Return where an attack begins: a copy of ``start``, or of the image.

    Raises:
        TypeError: no tensor, or of another dtype than the image's. ValueError: another shape or
            device, or values outside [0, 1].
    """
    if start is None:
        return image.clone()
    check_tensor("start", start)
    if start.shape != image.shape:
        raise ValueError(
            f"start must have the image's shape {tuple(image.shape)}, got {tuple(start.shape)}"
        )
    check_same("start", start, "image", image)
    check_unit_range("start", start, "begin within the budget, as uniform_start does")
    return start.detach().clone()


def check_shape(logits: object, image: Tensor) -> None:
    """Raise LocalizerError unless ``logits`` are floating (B, 1, H, W) beside the image."""
    expected = (len(image), 1, *image.shape[2:])
    if not isinstance(logits, Tensor):
        raise LocalizerError(
            f"the localizer must give logits of shape {expected}, got {type(logits).__name__}; "
            "pass postprocess= to WrappedLocalizer"
        )
    found = tuple(logits.shape)
    if found != expected:
        hint = "pass postprocess= to WrappedLocalizer"
        if found == (expected[0], *expected[2:]):
            hint = "add the channel: postprocess=lambda out: out.unsqueeze(1) of WrappedLocalizer"
        elif found == (expected[0], 2, *expected[2:]):
            hint = "give WrappedLocalizer(model, logits_from='two_class')"
        elif found[:2] == expected[:2]:
            hint = "resize them to the image: postprocess= of WrappedLocalizer with F.interpolate"
        raise LocalizerError(
            f"the localizer must give logits of shape {expected}, got {found}; {hint}"
        )
    if not logits.is_floating_point():
        raise LocalizerError(
            f"the localizer must give floating logits, got {logits.dtype}, a mask that is decided "
            "already; give the logits as they are before the threshold"
        )
    if logits.device != image.device:
        raise LocalizerError(
            f"the localizer must give logits on the image's device {image.device}, got "
            f"{logits.device}; move the model there, or the image to the model"
        )


def check_logits(
    logits: Tensor,
    image: Tensor,
    localizer: LocalizerFunction,
    sure: bool = False,
    finite: bool = True,
) -> None:
    """Raise LocalizerError for logits of a wrong kind; one read from the device.

    Logits that are all in [0, 1] are taken for probabilities, unless the localizer has an attribute
    ``logits_from`` other than None, or the graph of its output shows that nothing bounds it (see
    ``may_be_probabilities``: a second forward, in that case alone).

    Args:
        localizer: what gave them.
        sure: they were seen to be logits before.
        finite: NaN and infinity are an error.
    """
    check_shape(logits, image)
    found = value_range(logits)
    if found is None:
        return
    low, high = found
    if not (math.isfinite(low) and math.isfinite(high)):
        if not finite:
            return
        what = "NaN" if math.isnan(low) else f"values from {low:.6g} to {high:.6g}"
        raise LocalizerError(f"the localizer must give finite logits, got {what}; {INFINITE}")
    in_unit = low >= 0 and 0 < high <= 1
    if sure or not in_unit or _says_logits(localizer):
        return
    if (low, high) != (0.0, 1.0) and not may_be_probabilities(localizer, image):
        return
    if bool(((logits == 0) | (logits == 1)).all()):
        raise LocalizerError(
            "the localizer gives nothing but 0 and 1, a mask that is decided already; give the "
            "logits as they are before round(), argmax() or the threshold"
        )
    raise LocalizerError(
        f"the localizer gives nothing but values from {low:.6g} to {high:.6g}, which look like "
        "probabilities; logits are needed, > 0 where forged: give "
        "WrappedLocalizer(model, logits_from='probabilities'), or logits_from='logits' if they "
        "are logits"
    )


def _says_logits(localizer: object) -> bool:
    return any(
        getattr(part, "logits_from", None) is not None
        for module in find_modules(localizer)
        for part in module.modules()
    )


def largest_of_each(gradient: Tensor) -> Tensor:
    """Return (B,), the largest absolute value of every sample; NaN if one is."""
    if not gradient[0:1].numel():
        return gradient.new_zeros(len(gradient))
    dims = tuple(range(1, gradient.dim()))
    return torch.maximum(gradient.amax(dims), -gradient.amin(dims)).detach()
