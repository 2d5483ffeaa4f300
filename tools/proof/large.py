"""Calls of more than 2**31 elements, of which only the first and last blocks run: an index of 32
bits would leave the tensors. Memory that nobody touches costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ELEMENTS = 2**31 + 3 * 2**12  # of three channels each, for images
SCHEDULE = "lifo,ends:2"


@dataclass(frozen=True)
class Large:
    """``last``: what the last elements of the first result, or argument, must be."""

    op: str
    label: str
    arguments: tuple[Any, ...]
    last: Callable[[], Tensor] | None = None


def _untouched(*shape: int, last: bool = False, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    tensor = torch.empty(shape, dtype=dtype)
    return tensor.movedim(-1, 1) if last else tensor


def _with_end(value: float, *shape: int) -> Tensor:
    tensor = _untouched(*shape)
    tensor.view(-1)[-8:] = value
    return tensor


def large() -> Iterator[Large]:
    eights = torch.full((8,), 0.0)
    side = ELEMENTS // 3 // 4096
    image, adv = (_with_end(0.5, 1, 3, side, 4096) for _ in range(2))
    limits = (0.25, None, False, 0.0, 1.0)
    moved = lambda: eights + 0.75  # noqa: E731
    yield Large(
        "pgd_step_", "linf", (adv, _with_end(2.0, *image.shape), image, 0.5, None, *limits), moved
    )
    noise = _with_end(2.0, *image.shape)
    yield Large("clamp_project", "linf", (image, noise, *limits), moved)
    gradients = (noise, image, _with_end(0.125, *image.shape), *limits, True, True)
    yield Large("clamp_project_backward", "linf", gradients, lambda: eights + 2)
    step = (adv, _with_end(1.0, *image.shape), noise, image)
    yield Large("momentum_step_", "l2", (*step, 0.5, None, 0.25, None, 1.0, True, 0.0, 1.0))
    levels = torch.empty(1, side, 4096, 3, dtype=torch.uint8)
    levels.view(-1)[-8:] = 255
    yield Large("image_pack", "channels_last", (levels, False, True, torch.bfloat16))
    yield Large("image_pack", "planar", (levels, False, False, torch.bfloat16))
    yield Large("image_unpack", "planar", (image, noise, 0.25, None, True, False))

    logits = _with_end(0.0, 1, 1, ELEMENTS)
    mask = torch.empty(1, 1, ELEMENTS, dtype=torch.uint8)
    mask.view(-1)[-8:] = 1
    weights = (1.0,) * 6
    rest = (None, None, None, None, weights, None, 2)
    yield Large("dual_mask", "one branch", (logits, None, mask, *rest))
    sums = torch.tensor([[[1.0, 1, 1, 1, 1]]], dtype=torch.float64)
    backward = (torch.tensor(1.0), sums, logits, None, mask, *rest, True, False)
    # BCE: p - y; Dice: p (1 - p) (3 / 9 - 2 / 3).
    yield Large("dual_mask_backward", "one branch", backward, lambda: eights - 0.5 - 0.25 / 3)

    for label, shape, last in (
        ("short rows", (1, ELEMENTS // 256, 16, 16), False),
        ("middle rows", (1, ELEMENTS // 4096, 64, 64), False),
        ("long rows", (1, 1, ELEMENTS), False),
        ("columns", (1, ELEMENTS // 4096, 4096), True),
        ("odd columns", (1, ELEMENTS // 4096, 4097), True),
    ):
        maps = [_untouched(*shape, last=last) for _ in range(2)]
        options = (1.0, 0.0, True, 1, True, False)
        yield Large("channelwise_kl", label, (*maps, *options))
        yield Large("channelwise_kl_backward", label, (torch.tensor(2.0), maps[0]))
        yield Large(
            "channelwise_kl_backward", f"{label}, each", (torch.rand(maps[0].shape[:2]), maps[0])
        )
