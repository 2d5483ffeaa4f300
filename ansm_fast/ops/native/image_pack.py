"""image_pack and image_unpack on the compiled library."""

from __future__ import annotations

import torch
from torch import Tensor

from ansm_fast.ops.native.perturbation import Budget, split


def image_pack(
    images: Tensor, bgr: bool, memory_format: torch.memory_format, dtype: torch.dtype
) -> Tensor:
    result: Tensor = torch.ops.ansm_fast.image_pack.default(
        images, bgr, memory_format == torch.channels_last, dtype
    )
    return result


def image_unpack(
    image: Tensor, perturbation: Tensor | None, eps: Budget | None, bgr: bool
) -> Tensor:
    number, tensor = (0.0, None) if eps is None else split(eps)
    result: Tensor = torch.ops.ansm_fast.image_unpack.default(
        image.detach(),
        None if perturbation is None else perturbation.detach(),
        number,
        tensor,
        eps is not None,
        bgr,
    )
    return result


@torch.library.register_fake("ansm_fast::image_pack")
def _fake_pack(images: Tensor, bgr: bool, channels_last: bool, dtype: torch.dtype) -> Tensor:
    samples, height, width, channels = images.shape
    if channels_last:
        return images.new_empty((samples, height, width, channels), dtype=dtype).permute(0, 3, 1, 2)
    return images.new_empty((samples, channels, height, width), dtype=dtype)


@torch.library.register_fake("ansm_fast::image_unpack")
def _fake_unpack(
    image: Tensor,
    perturbation: Tensor | None,
    eps: float,
    sample_eps: Tensor | None,
    bounded: bool,
    bgr: bool,
) -> Tensor:
    samples, channels, height, width = image.shape
    return image.new_empty((samples, height, width, channels), dtype=torch.uint8)
