"""image_pack and image_unpack: the shapes of their launches. The arithmetic: kernels/image_pack."""

from __future__ import annotations

import torch
from torch import Tensor

from ansm_fast.kernels.common.triton_numbers import words
from ansm_fast.kernels.image_pack.triton_kernel import CHANNELS, pack_kernel, unpack_kernel
from ansm_fast.ops.dtypes import FLOATING
from ansm_fast.ops.triton_launch import (
    cdiv,
    check,
    check_floating,
    check_shape,
    define,
    in_order,
    is_double,
    lies_channels_last,
    sample_kind,
    wrap_triton,
)

BLOCK = 1024


@define("image_pack")
def image_pack(images: Tensor, bgr: bool, channels_last: bool, dtype: torch.dtype) -> Tensor:
    check(
        images.dim() == 4 and images.shape[3] == CHANNELS and images.dtype == torch.uint8,
        "images must be uint8 of shape (N, H, W, 3)",
    )
    check(dtype in FLOATING, "the result must be float32, float16, bfloat16 or float64")
    images = images.contiguous()
    samples, height, width, _ = images.shape
    pixels = height * width
    if channels_last:
        out = images.new_empty(images.shape, dtype=dtype)
        pieces = cdiv(samples * pixels * CHANNELS, BLOCK)
        programs = pieces
    else:
        out = images.new_empty((samples, CHANNELS, height, width), dtype=dtype)
        pieces = cdiv(pixels, BLOCK)
        programs = samples * pieces
    wrap_triton(pack_kernel)[(programs,)](
        images, out, samples, pixels, pieces, BGR=bgr, LAST=channels_last, BLOCK=BLOCK, num_warps=4
    )
    return out.permute(0, 3, 1, 2) if channels_last else out


@define("image_unpack")
def image_unpack(
    image: Tensor,
    perturbation: Tensor | None,
    eps: float,
    sample_eps: Tensor | None,
    bounded: bool,
    bgr: bool,
) -> Tensor:
    check(image.dim() == 4 and image.shape[1] == CHANNELS, "image must have shape (N, 3, H, W)")
    check_floating(image, "image")
    image = in_order(image, image)
    noise = image
    if perturbation is not None:
        check_floating(perturbation, "perturbation")
        check_shape(perturbation, image, "perturbation")
        noise = in_order(perturbation, image)
    samples, _, height, width = image.shape
    kind = sample_kind(sample_eps, samples, "eps")
    out = image.new_empty((samples, height, width, CHANNELS), dtype=torch.uint8)
    last, pixels = lies_channels_last(image), height * width
    pieces = cdiv(pixels * CHANNELS if last else pixels, BLOCK)
    wrap_triton(unpack_kernel)[(samples * pieces,)](
        image, noise, out, image if sample_eps is None else sample_eps, pixels, pieces,
        *words(eps), DOUBLE=is_double(image), NOISE=perturbation is not None, BOUNDED=bounded,
        EPS=kind, BGR=bgr, LAST=last, BLOCK=BLOCK, num_warps=4,
    )  # fmt: skip
    return out
