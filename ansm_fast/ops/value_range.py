"""Whether values are where they should be, asked only where the answer can be read."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Resizing, or undoing a normalization, leaves a value of 1 a few units in the last place off.
_ULPS = 4


def value_range(tensor: Tensor) -> tuple[float, float] | None:
    """Smallest and largest value, (nan, nan) if one is NaN, in one read from the device.

    None for an empty tensor and where no value can be read: while a graph is compiled, exported,
    traced or captured, and for tensors of ``torch.func.vmap`` or without data.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or not tensor.numel():
        return None
    if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
        return None
    try:
        values = tensor.detach()
        # Not aminmax(), which copies what is channels_last.
        low, high = torch.stack((values.amin(), values.amax())).tolist()
    except (RuntimeError, NotImplementedError):
        return None
    return float(low), float(high)


def check_unit_range(name: str, tensor: Tensor, way_out: str) -> None:
    """Raise ValueError unless all values are in [0, 1], give or take four ulps of 1.

    Args:
        way_out: what to do about it, the end of the message.
    """
    found = value_range(tensor)
    if found is None:
        return
    low, high = found
    if math.isnan(low) or math.isnan(high):
        raise ValueError(f"{name} must be in [0, 1], got NaN; look for a division by 0 before it")
    slack = _ULPS * torch.finfo(tensor.dtype).eps
    if not (-slack <= low and high <= 1 + slack):
        raise ValueError(
            f"{name} must be in [0, 1], got values from {low:.6g} to {high:.6g}; {way_out}"
        )


def check_image_range(image: Tensor) -> None:
    """``check_unit_range`` of an image, with the way out that its values suggest."""
    check_unit_range(
        "image",
        image,
        "divide 8-bit values by 255, and leave a normalization to the localizer "
        "(WrappedLocalizer(preprocess=...))",
    )
