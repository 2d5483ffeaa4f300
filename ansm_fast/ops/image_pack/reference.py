"""image_pack and image_unpack in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from ansm_fast.ops.budget import Budget
from ansm_fast.ops.dtypes import accumulation_dtype
from ansm_fast.ops.perturbation.reference import per_sample, project


def image_pack(
    images: Tensor,
    *,
    bgr: bool = True,
    memory_format: torch.memory_format = torch.contiguous_format,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """uint8 (N, H, W, 3) to floating (N, 3, H, W) RGB in [0, 1]; see ansm_fast.ops."""
    planar = (images.flip(-1) if bgr else images).permute(0, 3, 1, 2)
    image = planar.to(accumulation_dtype(dtype)) / 255
    return image.to(dtype).contiguous(memory_format=memory_format)


def image_unpack(
    image: Tensor,
    perturbation: Tensor | None = None,
    eps: Budget | None = None,
    *,
    bgr: bool = True,
) -> Tensor:
    """Floating (N, 3, H, W) RGB to uint8 (N, H, W, 3), after adding; see ansm_fast.ops."""
    origin = image.to(accumulation_dtype(image.dtype))
    result = origin
    if perturbation is not None:
        delta = perturbation.to(origin.dtype)
        result = origin + (delta if eps is None else project(delta, eps, "linf"))
    levels = _levels(result)
    if perturbation is not None and eps is not None:
        # Rounding must not spend what is left of a budget between two levels, hence whole levels.
        # The slack forgives an eps that was itself rounded to a half type.
        whole = (per_sample(eps, origin).double() * 255 * (1 + 1 / 1024)).floor().to(origin.dtype)
        start = _levels(origin)
        levels = torch.minimum(torch.maximum(levels, start - whole), start + whole)
    levels = levels.to(torch.uint8).permute(0, 2, 3, 1)
    return (levels.flip(-1) if bgr else levels).contiguous()


def _levels(image: Tensor) -> Tensor:
    return (image.nan_to_num(nan=0.0).clamp(0, 1) * 255).round()
