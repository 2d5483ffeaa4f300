"""Tensors of more than 2**31 elements: every index beyond must be one of 64 bits.

A result is compared with the same op's on a part of its tensors that small indices reach; where
a row or sample is itself that long it repeats a short one, whose result is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ansm_fast import ops
from tools.gpu.correctness import NOT_RUN, Outcome, attempt

BEYOND = 2**31 + 2**16
_PART = 1 << 12


def _uniform(count: int, device: torch.device, dtype: torch.dtype, seed: int) -> Tensor:
    """Made in pieces: what PyTorch needs besides stays small."""
    generator = torch.Generator(device).manual_seed(seed)
    result = torch.empty(count, device=device, dtype=dtype)
    for piece in result.split(1 << 26):
        piece.copy_(torch.rand(piece.numel(), device=device, generator=generator))
    return result


def _starts(count: int) -> list[int]:
    """First, on both sides of half, and last: where 31 and 32 bits end."""
    return [0, count // 2 - _PART // 2, count - _PART]


def _apart(found: Tensor, expected: Tensor, bound: float) -> str | None:
    difference = float((found.double() - expected.double()).abs().max())
    size = float(expected.double().abs().max())
    if difference <= bound * size:
        return None
    return f"off by {difference:.3g} of {size:.3g}"


def kl_many_rows(backend: str, device: torch.device, elements: int) -> str | None:
    pixels = 256
    rows = -(-elements // pixels)
    input, target = (
        _uniform(rows * pixels, device, torch.float16, seed).view(rows, 1, pixels)
        for seed in (1, 2)
    )
    options = {"reduction": "none", "backend": backend}
    whole = ops.channelwise_kl(input.requires_grad_(), target, **options)
    (gradient,) = torch.autograd.grad(whole.sum(), input)
    count = _PART // pixels
    for start in (0, rows // 2 - count, rows - count):
        part = slice(start, start + count)
        a = input.detach()[part].clone().requires_grad_()
        loss = ops.channelwise_kl(a, target[part].clone(), **options)
        (expected,) = torch.autograd.grad(loss.sum(), a)
        for name, one, other in (
            ("loss", whole[part], loss), ("gradient", gradient[part], expected),
        ):  # fmt: skip
            wrong = _apart(one.detach(), other.detach(), 2e-3)
            if wrong:
                return f"{name} of rows from {start}: {wrong}"
    return None


def kl_one_row(backend: str, device: torch.device, elements: int) -> str | None:
    """Of a row that repeats a short one the divergence is the same, the gradient a share of it."""
    repeats = -(-elements // _PART)
    short = [_uniform(_PART, device, torch.float32, seed) * 4 for seed in (1, 2)]
    long = [x.to(torch.bfloat16).repeat(repeats).view(1, 1, -1) for x in short]
    short = [x.to(torch.bfloat16).double().view(1, 1, -1) for x in short]
    a, b = long[0].requires_grad_(), short[0].requires_grad_()
    loss = ops.channelwise_kl(a, long[1], reduction="sum", backend=backend)
    (gradient,) = torch.autograd.grad(loss * 2.0**24, a)
    exact = ops.channelwise_kl(b, short[1], reduction="sum", backend="reference")
    (true,) = torch.autograd.grad(exact * 2.0**24, b)
    wrong = _apart(loss.detach(), exact.detach(), 1e-2)
    if wrong:
        return f"loss: {wrong}"
    for start in (0, repeats // 2 * _PART, (repeats - 1) * _PART):
        wrong = _apart(gradient.view(-1)[start : start + _PART], true.view(-1) / repeats, 2e-2)
        if wrong:
            return f"gradient from {start}: {wrong}"
    return None


def _mask_loss(backend: str, device: torch.device, samples: int, repeats: int) -> str | None:
    logits = _uniform(_PART, device, torch.float32, 1).mul(6).sub(3).to(torch.bfloat16)
    mask = _uniform(_PART, device, torch.float32, 2) > 0.5
    options = {"smooth": 0.0, "reduction": "none", "backend": backend}
    long = logits.repeat(samples, 1, repeats).requires_grad_()
    loss = ops.bce_dice_loss(long, mask.repeat(samples, 1, repeats), **options)
    (gradient,) = torch.autograd.grad(loss.sum() * 2.0**16, long)
    short = logits.double().view(1, 1, -1).requires_grad_()
    options["backend"] = "reference"
    exact = ops.bce_dice_loss(short, mask.view(1, 1, -1), **options)
    (true,) = torch.autograd.grad(exact.sum() * 2.0**16, short)
    wrong = _apart(loss.detach(), exact.detach().expand(samples), 1e-2)
    if wrong:
        return f"loss: {wrong}"
    flat = gradient.view(-1)
    for start in (0, repeats * samples // 2 * _PART, flat.numel() - _PART):
        wrong = _apart(flat[start : start + _PART], true.view(-1) / repeats, 2e-2)
        if wrong:
            return f"gradient from {start}: {wrong}"
    return None


def mask_many_samples(backend: str, device: torch.device, elements: int) -> str | None:
    samples = max(2, math.isqrt(elements // _PART) // 8)
    return _mask_loss(backend, device, samples, -(-elements // (_PART * samples)))


def mask_one_sample(backend: str, device: torch.device, elements: int) -> str | None:
    return _mask_loss(backend, device, 1, -(-elements // _PART))


def project(backend: str, device: torch.device, elements: int) -> str | None:
    image, noise = (_uniform(elements, device, torch.float16, seed) for seed in (1, 2))
    found = ops.clamp_project(image.view(1, -1), noise.view(1, -1), 0.0625, backend=backend)
    for start in _starts(elements):
        part = slice(start, start + _PART)
        expected = ops.clamp_project(
            image[part].view(1, -1).clone(), noise[part].view(1, -1).clone(), 0.0625,
            backend=backend,
        )  # fmt: skip
        if not torch.equal(found[:, part], expected):
            return f"elements from {start} differ"
    return None


def step(backend: str, device: torch.device, elements: int) -> str | None:
    image, grad = (_uniform(elements, device, torch.bfloat16, seed) for seed in (1, 2))
    grad -= 0.5
    adv = image.clone()
    ops.pgd_step_(*(x.view(1, -1) for x in (adv, grad, image)), 0.25, 0.5, backend=backend)
    for start in _starts(elements):
        part = slice(start, start + _PART)
        a, g, x = (t[part].view(1, -1).clone() for t in (image, grad, image))
        ops.pgd_step_(a, g, x, 0.25, 0.5, backend=backend)
        if not torch.equal(adv[part].view(1, -1), a):
            return f"elements from {start} differ"
    return None


def pack_and_unpack(backend: str, device: torch.device, elements: int) -> str | None:
    height = -(-elements // (3 * _PART))
    shape = (1, height, _PART, 3)
    images = torch.empty(shape, device=device, dtype=torch.uint8)
    for piece in images.view(-1).split(1 << 26):
        piece.copy_(torch.randint(0, 256, piece.shape, device=device, dtype=torch.uint8))
    packed = ops.image_pack(images, dtype=torch.float16, backend=backend)
    for start in (0, height // 2, height - 1):
        rows = slice(start, start + 1)
        expected = ops.image_pack(images[:, rows], dtype=torch.float16, backend="reference")
        if not torch.equal(packed[:, :, rows], expected):
            return f"packed row {start} differs"
    back = ops.image_unpack(packed, backend=backend)
    for one, other in zip(
        back.view(-1).split(1 << 28), images.view(-1).split(1 << 28), strict=True
    ):
        if not torch.equal(one, other):
            return "the way back differs"
    return None


# Op, check, and the bytes that it needs for each element.
CHECKS: tuple[tuple[str, Callable[[str, torch.device, int], str | None], int], ...] = (
    ("channelwise_kl", kl_many_rows, 12),
    ("channelwise_kl", kl_one_row, 12),
    ("dual_mask_loss", mask_many_samples, 10),
    ("dual_mask_loss", mask_one_sample, 10),
    ("clamp_project", project, 10),
    ("pgd_step_", step, 10),
    ("image_pack", pack_and_unpack, 8),
)


def free_bytes(device: torch.device) -> int:
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])


def run(
    backend: str, device: torch.device, elements: int = BEYOND, free: int | None = None
) -> list[Outcome]:
    """Each check that the free memory allows, ``elements`` long."""
    outcomes = []
    for op, function, bytes_each in CHECKS:
        name = f"{function.__name__} of {elements} elements"
        free_now = free_bytes(device) if free is None else free
        needed = elements * bytes_each
        if needed > 0.9 * free_now:
            reason = f"needs {needed / 2**30:.0f} GiB, {free_now / 2**30:.0f} GiB are free"
            outcomes.append(Outcome("large", backend, op, name, NOT_RUN, reason))
            continue
        outcomes.append(
            attempt("large", backend, op, name, lambda f=function: f(backend, device, elements))
        )
    return outcomes
