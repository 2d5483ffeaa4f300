"""Calls of image_pack and image_unpack: their truth, and the bytes that they have to move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.cases import DOUBLE, FLOAT, HALF, Call, by_size, drawn, empty, laid_out, size_of
from ansm_fast.ops.image_pack import reference


def pack_truth(images: Tensor, bgr: bool, last: bool, dtype: torch.dtype) -> list[Tensor]:
    memory = torch.channels_last if last else torch.contiguous_format
    return [reference.image_pack(images, bgr=bgr, memory_format=memory, dtype=dtype)]


def unpack_truth(
    image: Tensor, noise: Tensor | None, eps: float, sample_eps: Tensor | None, bounded: bool,
    bgr: bool,
) -> list[Tensor]:  # fmt: skip
    budget = (eps if sample_eps is None else sample_eps) if bounded else None
    return [reference.image_unpack(image, noise, budget, bgr=bgr)]


def calls(dtype: torch.dtype, layout: str) -> Iterator[Call]:
    last = layout == "channels_last"
    for shape in ((2, 24, 40, 3), (1, 33, 31, 3)):
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        for bgr in (True, False):
            label = f"{by_size(shape)} {'BGR' if bgr else 'RGB'}"
            packed = pack_truth(images, bgr, last, dtype)[0]
            arguments: tuple[Any, ...] = (images, bgr, last, dtype)
            least = size_of(images, packed)
            yield Call("image_pack", label, arguments, pack_truth, least, exact=True)
            noise = laid_out((torch.randn(packed.shape) * 0.05).to(dtype), layout)
            each = torch.full((shape[0],), 2.5 / 255, dtype=DOUBLE)
            variants = {
                "": (None, 0.0, None, False), " added": (noise, 0.0, None, False),
                " bounded": (noise, 8 / 255, None, True), " per sample": (noise, 0.0, each, True),
            }  # fmt: skip
            for name, rest in variants.items():
                least = size_of(images, packed, rest[0], rest[2])
                arguments = (packed, *rest, bgr)
                yield Call("image_unpack", label + name, arguments, unpack_truth, least, exact=True)


def traffic(dtype: torch.dtype) -> Iterator[Call]:
    for shape in ((2, 3, 96, 128), (2, 3, 97, 127)):
        aligned = shape[-1] % 8 == 0
        for layout in ("contiguous", "channels_last"):
            levels = torch.randint(0, 256, (2, *shape[2:], 3), dtype=torch.uint8)
            packed, added = (drawn(shape, dtype, layout) for _ in range(2))
            arguments: tuple[Any, ...] = (levels, True, layout == "channels_last", dtype)
            least = size_of(levels, packed)
            yield Call("image_pack", layout, arguments, minimum=least, aligned=aligned)
            arguments = (packed, added, 0.03, None, True, True)
            least = size_of(levels, packed, added)
            yield Call("image_unpack", layout, arguments, minimum=least, aligned=aligned)


def opchecks(layout: str) -> Iterator[Call]:
    levels = torch.zeros(2, 4, 5, 3, dtype=torch.uint8)
    image, noise = (drawn((2, 3, 4, 5), FLOAT, layout) for _ in range(2))
    yield Call("image_pack", layout, (levels, True, layout == "channels_last", HALF))
    yield Call("image_unpack", layout, (image, noise, 0.1, None, True, True))


def compiled(dtype: torch.dtype, brief: bool) -> Iterator[Call]:
    each = torch.empty(2, dtype=DOUBLE)
    for layout in ("contiguous", "channels_last"):
        for bgr in (True, False):
            label = f"{'BGR' if bgr else 'RGB'} {layout}"
            images = torch.empty((2, 256, 256, 3), dtype=torch.uint8)
            yield Call("image_pack", label, (images, bgr, layout == "channels_last", dtype))
            image, noise = (empty((2, 3, 256, 256), dtype, layout) for _ in range(2))
            yield Call("image_unpack", label, (image, None, 0.0, None, False, bgr))
            bounded = (image, noise, 0.0, each, True, bgr)
            yield Call("image_unpack", f"{label} bounded", bounded)
