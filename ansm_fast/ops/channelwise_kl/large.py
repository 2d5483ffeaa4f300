"""channelwise_kl on more than 2**31 elements: calls for the SIMT harness, checks for a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ansm_fast.ops.cases import BRAIN, FLOAT, HALF, Call, empty
from ansm_fast.ops.channelwise_kl import channelwise_kl
from ansm_fast.ops.channelwise_kl.calls import SUM
from ansm_fast.ops.large import PART, apart, uniform


def calls(elements: int) -> Iterator[Call]:
    for label, shape, layout in (
        ("short rows", (1, elements // 256, 16, 16), "contiguous"),
        ("middle rows", (1, elements // 4096, 64, 64), "contiguous"),
        ("long rows", (1, 1, elements), "contiguous"),
        ("columns", (1, 4096, elements // 4096), "channels_last"),
        ("odd columns", (1, 4097, elements // 4096), "channels_last"),
    ):
        maps = [empty(shape, BRAIN, layout) for _ in range(2)]
        yield Call("channelwise_kl", label, (*maps, 1.0, 0.0, True, SUM, True, False))
        backward = "channelwise_kl_backward"
        yield Call(backward, label, (torch.tensor(2.0), maps[0]))
        yield Call(backward, f"{label}, each", (torch.rand(maps[0].shape[:2]), maps[0]))


def many_rows(backend: str, device: torch.device, elements: int) -> str | None:
    pixels = 256
    rows = -(-elements // pixels)
    input, target = (
        uniform(rows * pixels, device, HALF, seed).view(rows, 1, pixels) for seed in (1, 2)
    )
    options: dict[str, Any] = {"reduction": "none", "backend": backend}
    whole = channelwise_kl(input.requires_grad_(), target, **options)
    (gradient,) = torch.autograd.grad(whole.sum(), input)
    count = PART // pixels
    for start in (0, rows // 2 - count, rows - count):
        part = slice(start, start + count)
        a = input.detach()[part].clone().requires_grad_()
        loss = channelwise_kl(a, target[part].clone(), **options)
        (expected,) = torch.autograd.grad(loss.sum(), a)
        for name, one, other in (
            ("loss", whole[part], loss), ("gradient", gradient[part], expected),
        ):  # fmt: skip
            wrong = apart(one.detach(), other.detach(), 2e-3)
            if wrong:
                return f"{name} of rows from {start}: {wrong}"
    return None


def one_row(backend: str, device: torch.device, elements: int) -> str | None:
    """Of a row that repeats a short one the divergence is the same, the gradient a share of it."""
    repeats = -(-elements // PART)
    short = [uniform(PART, device, FLOAT, seed) * 4 for seed in (1, 2)]
    long = [x.to(BRAIN).repeat(repeats).view(1, 1, -1) for x in short]
    short = [x.to(BRAIN).double().view(1, 1, -1) for x in short]
    a, b = long[0].requires_grad_(), short[0].requires_grad_()
    loss = channelwise_kl(a, long[1], reduction="sum", backend=backend)
    (gradient,) = torch.autograd.grad(loss * 2.0**24, a)
    exact = channelwise_kl(b, short[1], reduction="sum", backend="reference")
    (true,) = torch.autograd.grad(exact * 2.0**24, b)
    wrong = apart(loss.detach(), exact.detach(), 1e-2)
    if wrong:
        return f"loss: {wrong}"
    for start in (0, repeats // 2 * PART, (repeats - 1) * PART):
        wrong = apart(gradient.view(-1)[start : start + PART], true.view(-1) / repeats, 2e-2)
        if wrong:
            return f"gradient from {start}: {wrong}"
    return None
