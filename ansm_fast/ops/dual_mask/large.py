"""The losses of masks on more than 2**31 elements."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from ansm_fast.ops.cases import BRAIN, DOUBLE, FLOAT, Call, with_end
from ansm_fast.ops.dual_mask import bce_dice_loss
from ansm_fast.ops.dual_mask.calls import MEAN
from ansm_fast.ops.large import PART, apart, uniform


def calls(elements: int) -> Iterator[Call]:
    logits = with_end(0.0, 1, 1, elements)
    mask = with_end(1, 1, 1, elements, dtype=torch.uint8)
    arguments = (logits, None, mask, None, None, None, None, (1.0,) * 6, None, MEAN)
    yield Call("dual_mask", "one branch", arguments)
    sums = torch.tensor([[[1.0, 1, 1, 1, 1]]], dtype=DOUBLE)
    # BCE: p - y; Dice: p (1 - p) (3 / 9 - 2 / 3).
    yield Call(
        "dual_mask_backward", "one branch", (torch.tensor(1.0), sums, *arguments, True, False),
        last=lambda: torch.full((8,), -0.5 - 0.25 / 3),
    )  # fmt: skip


def _check(backend: str, device: torch.device, samples: int, repeats: int) -> str | None:
    logits = uniform(PART, device, FLOAT, 1).mul(6).sub(3).to(BRAIN)
    mask = uniform(PART, device, FLOAT, 2) > 0.5
    options: dict[str, Any] = {"smooth": 0.0, "reduction": "none", "backend": backend}
    long = logits.repeat(samples, 1, repeats).requires_grad_()
    loss = bce_dice_loss(long, mask.repeat(samples, 1, repeats), **options)
    (gradient,) = torch.autograd.grad(loss.sum() * 2.0**16, long)
    short = logits.double().view(1, 1, -1).requires_grad_()
    options["backend"] = "reference"
    exact = bce_dice_loss(short, mask.view(1, 1, -1), **options)
    (true,) = torch.autograd.grad(exact.sum() * 2.0**16, short)
    wrong = apart(loss.detach(), exact.detach().expand(samples), 1e-2)
    if wrong:
        return f"loss: {wrong}"
    flat = gradient.view(-1)
    for start in (0, repeats * samples // 2 * PART, flat.numel() - PART):
        wrong = apart(flat[start : start + PART], true.view(-1) / repeats, 2e-2)
        if wrong:
            return f"gradient from {start}: {wrong}"
    return None


def many_samples(backend: str, device: torch.device, elements: int) -> str | None:
    samples = max(2, math.isqrt(elements // PART) // 8)
    return _check(backend, device, samples, -(-elements // (PART * samples)))


def one_sample(backend: str, device: torch.device, elements: int) -> str | None:
    return _check(backend, device, 1, -(-elements // PART))
