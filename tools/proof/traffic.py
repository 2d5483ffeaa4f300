"""Calls of every CUDA op with the bytes that they have to move: the floors of the rooms' READMEs.

Workspaces are not in the floors: what they add is part of what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Traffic:
    """``aligned``: every row begins at a multiple of 16 bytes."""

    op: str
    label: str
    arguments: tuple[Any, ...]
    floor: int
    aligned: bool


def bytes_of(*tensors: Tensor | None) -> int:
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


def _drawn(shape: tuple[int, ...], dtype: torch.dtype, last: bool = False) -> Tensor:
    tensor = torch.randn(shape).to(dtype)
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1) if last else tensor


# Rows in a warp's registers, in a block's, in chunks; channels-last maps in chunks.
MAPS = (
    ("warp", (2, 64, 16, 16), (2, 67, 15, 17), False, False),
    ("block", (1, 6, 64, 64), (1, 7, 63, 65), False, False),
    ("split", (1, 2, 160, 160), (1, 2, 163, 161), True, False),
    ("columns", (1, 64, 40, 40), (1, 67, 41, 39), True, True),
)


def _maps(dtype: torch.dtype) -> Iterator[Traffic]:
    for route, even, odd, chunks, last in MAPS:
        for shape in (even, odd):
            for alpha, grads in ((0.0, (True, False)), (0.0, (True, True)), (0.1, (True, False))):
                input, target = (_drawn(shape, dtype, last) for _ in range(2))
                size, wanted = bytes_of(input), sum(grads)
                floor = (2 + wanted) * size
                if chunks:
                    floor += 2 * size + (2 * size if alpha else 0)
                yield Traffic(
                    "channelwise_kl",
                    f"{route} {'x'.join(map(str, shape))} alpha={alpha:g} gradients={wanted}",
                    (input, target, 1.0, alpha, True, 4, *grads),
                    floor,
                    shape == even,
                )
            # The backward of float16: both inputs read, and both gradients written, at once.
            input, target = (_drawn(shape, dtype, last) for _ in range(2))
            arguments = (input, target, 1.0, 0.0, True, 4, True, True, torch.tensor(2.0))
            passes = 6 if chunks else 4
            label = f"{route} {'x'.join(map(str, shape))} times a factor"
            floor = passes * bytes_of(input)
            yield Traffic("channelwise_kl", label, arguments, floor, shape == even)
    for even in (True, False):
        shapes = [entry[1 if even else 2] for entry in MAPS[:2]]
        inputs, targets = ([_drawn(shape, dtype) for shape in shapes] for _ in range(2))
        yield Traffic(
            "channelwise_kl_layers",
            "a warp's rows and a block's",
            (inputs, targets, 1.0, 0.0, True, 4, [True, True], [False, False], []),
            3 * bytes_of(*inputs),
            even,
        )
        for last in (False, True):
            shape = MAPS[3][1 if even else 2]
            gradient = _drawn(shape, dtype, last)
            factors = torch.rand(shape[:2])
            order = "channels_last" if last else "contiguous"
            size = bytes_of(gradient)
            yield Traffic("channelwise_kl_backward", order, (factors, gradient), 2 * size, even)
            yield Traffic(
                "channelwise_kl_scale_", order, (gradient.clone(), torch.tensor(2.0)), 2 * size,
                even,
            )  # fmt: skip
            # A grad_output of 1: its own sector is all that is touched.
            yield Traffic(
                "channelwise_kl_scale_", f"{order} times 1", (gradient, torch.tensor(1.0)), 32, even
            )


def _masks(dtype: torch.dtype) -> Iterator[Traffic]:
    weights = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    for shape in ((2, 1, 128, 128), (2, 1, 127, 129)):
        adv, orig = (_drawn(shape, dtype) for _ in range(2))
        hard, soft = torch.rand(shape) > 0.5, torch.rand(shape).to(dtype)
        even = shape[-1] % 8 == 0
        for label, mask, target in (("bool", hard, None), ("soft target", hard, soft)):
            tensors = (adv, orig, mask, None, target, None, None)
            read = bytes_of(adv, orig, mask, target)
            arguments = (*tensors, weights, None, 2)
            yield Traffic("dual_mask", label, arguments, read, even)
            sums = torch.full((2, 2, 5), 9.0, dtype=torch.float64)
            yield Traffic(
                "dual_mask_backward", label, (torch.tensor(1.5), sums, *arguments, True, True),
                read + bytes_of(adv, orig), even,
            )  # fmt: skip


def _images(dtype: torch.dtype) -> Iterator[Traffic]:
    for shape in ((2, 3, 96, 128), (2, 3, 97, 127)):
        image, noise, grad, momentum = (_drawn(shape, dtype) for _ in range(4))
        size, even = bytes_of(image), shape[-1] % 8 == 0
        for l2 in (False, True):
            norm = "l2" if l2 else "linf"
            limits = (0.05, None, l2, 0.0, 1.0)
            calls: list[tuple[str, tuple[Any, ...], int]] = [
                ("clamp_project", (image, noise, *limits), 4 if l2 else 3),
                (
                    "clamp_project_backward",
                    (grad, image, noise, *limits, True, True),
                    9 if l2 else 5,
                ),
                ("pgd_step_", (image.clone(), grad, image, 0.01, None, *limits), 7 if l2 else 4),
                (
                    "momentum_step_",
                    (
                        image.clone(), momentum.clone(), grad, image, 0.01, None, 0.05, None, 0.9,
                        l2, 0.0, 1.0,
                    ),
                    10 if l2 else 7,
                ),
            ]  # fmt: skip
            for op, arguments, passes in calls:
                yield Traffic(op, norm, arguments, passes * size, even)
        for last in (False, True):
            order = "channels_last" if last else "planar"
            levels = torch.randint(0, 256, (2, *shape[2:], 3), dtype=torch.uint8)
            packed, added = (_drawn(shape, dtype, last) for _ in range(2))
            yield Traffic(
                "image_pack", order, (levels, True, last, dtype), bytes_of(levels, packed), even
            )
            yield Traffic(
                "image_unpack", order, (packed, added, 0.03, None, True, True),
                bytes_of(levels, packed, added), even,
            )  # fmt: skip


def traffic(dtype: torch.dtype) -> Iterator[Traffic]:
    """Every op on rows that are aligned and on odd ones."""
    torch.manual_seed(0)
    for make in (_maps, _masks, _images):
        yield from make(dtype)
