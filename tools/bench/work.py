"""What is timed: each op's backends beside eager PyTorch, torch.compile and Liger-Kernel.

Peers and the first shape of each op are those of ``benchmarks/cases.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ansm_fast import ops
from benchmarks import cases
from tools.bench.timing import Work

FLOAT = torch.float32
DTYPES = (FLOAT, torch.bfloat16)
MAKERS = ("eager", "compile", "liger")
# Feature maps of four layers, as FFA taps them.
TAPS = ((8, 64, 128, 128), (8, 128, 64, 64), (8, 256, 32, 32), (8, 512, 16, 16))
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """``make(device, backends, peers)`` gives a callable for each implementation.

    bytes: what cannot be done without, from the README of the op's room.
    """

    name: str
    shape: Shape
    dtype: torch.dtype
    bytes: int
    make: Callable[[torch.device, Sequence[str], Sequence[str]], dict[str, Work]]
    quick: bool


def _training(loss: Callable[..., Tensor], leaves: list[Tensor]) -> Work:
    """Forward and backward; gives the loss. Nothing accumulates, so that it can be captured."""

    def work() -> Tensor:
        value = loss(*leaves)
        torch.autograd.grad(value, leaves)
        return value.detach()

    return work


def _with_peers(
    found: dict[str, Work], peers: Sequence[str], eager: Callable[[Callable], Work], plain: Callable
) -> dict[str, Work]:
    if "eager" in peers:
        found["eager"] = eager(plain)
    if "compile" in peers:
        found["compile"] = eager(torch.compile(plain))
    return found


def _maps(shape: Shape, dtype: torch.dtype, last: bool, device: torch.device) -> list[Tensor]:
    maps = [torch.randn(shape, device=device).to(dtype) for _ in range(2)]
    if last:
        maps = [x.contiguous(memory_format=torch.channels_last) for x in maps]
    return [maps[0].requires_grad_(), maps[1]]


def _kl(shape: Shape, dtype: torch.dtype, last: bool) -> Callable[..., dict[str, Work]]:
    def make(device: torch.device, backends: Sequence[str], peers: Sequence[str]):
        input, target = _maps(shape, dtype, last, device)
        found: dict[str, Work] = {
            name: _training(lambda x, n=name: ops.channelwise_kl(x, target, backend=n), [input])
            for name in backends
        }
        return _with_peers(
            found, peers, lambda f: _training(lambda x: f(x, target), [input]), cases.eager_kl
        )

    return make


def eager_distillation(input: Tensor, target: Tensor) -> Tensor:
    p = input.flatten(2).log_softmax(2)
    q = target.flatten(2).log_softmax(2)
    return F.kl_div(p, q, log_target=True, reduction="sum") / input.numel()


def liger_distillation() -> Callable[[Tensor, Tensor], Tensor] | None:
    """Liger-Kernel from log-probabilities, which it takes; None where it is not installed.

    It has a gradient in its first argument only, which is the student of distillation.
    """
    try:
        from liger_kernel.transformers import LigerKLDIVLoss
    except ImportError:
        return None
    loss = LigerKLDIVLoss(reduction="mean", log_target=True)

    def distillation(input: Tensor, target: Tensor) -> Tensor:
        p, q = (x.flatten(2).flatten(0, 1).log_softmax(1) for x in (input, target))
        result: Tensor = loss(p, q)
        return result

    return distillation


def _distillation(shape: Shape, dtype: torch.dtype) -> Callable[..., dict[str, Work]]:
    def make(device: torch.device, backends: Sequence[str], peers: Sequence[str]):
        input, target = _maps(shape, dtype, False, device)

        def ours(name: str) -> Work:
            return _training(
                lambda x: ops.channelwise_kl(x, target, direction="target_input", backend=name),
                [input],
            )

        found = {name: ours(name) for name in backends}
        _with_peers(
            found, peers, lambda f: _training(lambda x: f(x, target), [input]), eager_distillation
        )
        liger = liger_distillation() if "liger" in peers else None
        if liger is not None:
            found["liger"] = _training(lambda x: liger(x, target), [input])
        return found

    return make


def _taps(dtype: torch.dtype) -> Callable[..., dict[str, Work]]:
    def make(device: torch.device, backends: Sequence[str], peers: Sequence[str]):
        pairs = [_maps(shape, dtype, False, device) for shape in TAPS]
        inputs, targets = [pair[0] for pair in pairs], [pair[1] for pair in pairs]

        def eager(*maps: Tensor) -> Tensor:
            return torch.stack(
                [cases.eager_kl(a, b) for a, b in zip(maps, targets, strict=True)]
            ).mean()

        found: dict[str, Work] = {
            name: _training(
                lambda *maps, n=name: ops.channelwise_kl(list(maps), targets, backend=n), inputs
            )
            for name in backends
        }
        return _with_peers(found, peers, lambda f: _training(f, inputs), eager)

    return make


def _dual_mask(shape: Shape, dtype: torch.dtype) -> Callable[..., dict[str, Work]]:
    def make(device: torch.device, backends: Sequence[str], peers: Sequence[str]):
        leaves = [torch.randn(shape, device=device).to(dtype).requires_grad_() for _ in range(2)]
        mask = torch.rand(shape, device=device) > 0.8
        # PyTorch's own loss takes no bool: the conversion is not part of its time.
        floating = mask.to(dtype)

        def eager(a: Tensor, b: Tensor) -> Tensor:
            return cases.eager_mask_loss(a, floating) + cases.eager_mask_loss(b, floating)

        found: dict[str, Work] = {
            name: _training(lambda a, b, n=name: ops.dual_mask_loss(a, b, mask, backend=n), leaves)
            for name in backends
        }
        return _with_peers(found, peers, lambda f: _training(f, leaves), eager)

    return make


def eager_momentum_step_(
    adv: Tensor, momentum: Tensor, grad: Tensor, image: Tensor, alpha: float, eps: float
) -> None:
    mean = grad.abs().flatten(1).mean(1).view(-1, 1, 1, 1)
    momentum.copy_(momentum + grad / mean)
    adv.copy_(cases.eager_step(adv, momentum, image, alpha, eps))


def eager_project(image: Tensor, perturbation: Tensor, eps: float) -> Tensor:
    return (image + perturbation.clamp(-eps, eps)).clamp(0, 1)


def _steps(op: str, shape: Shape, dtype: torch.dtype) -> Callable[..., dict[str, Work]]:
    def make(device: torch.device, backends: Sequence[str], peers: Sequence[str]):
        image = torch.rand(shape, device=device).to(dtype)
        grad, adv = torch.randn(shape, device=device).to(dtype), image.clone()
        numbers = (cases.ALPHA, cases.STEP_EPS)
        if op == "clamp_project":
            return _with_peers(
                {n: lambda n=n: ops.clamp_project(image, grad, numbers[1], backend=n)
                 for n in backends},
                peers, lambda f: lambda: f(image, grad, numbers[1]), eager_project,
            )  # fmt: skip
        if op == "pgd_step_":
            return _with_peers(
                {n: lambda n=n: ops.pgd_step_(adv, grad, image, *numbers, backend=n)
                 for n in backends},
                peers, lambda f: lambda: adv.copy_(f(adv, grad, image, *numbers)), cases.eager_step,
            )  # fmt: skip
        momentum = torch.zeros_like(grad)
        tensors = (adv, momentum, grad, image)
        return _with_peers(
            {n: lambda n=n: ops.momentum_step_(*tensors, *numbers, backend=n) for n in backends},
            peers, lambda f: lambda: f(*tensors, *numbers), eager_momentum_step_,
        )  # fmt: skip

    return make


def _pack(shape: Shape) -> Callable[..., dict[str, Work]]:
    def make(device: torch.device, backends: Sequence[str], peers: Sequence[str]):
        samples, channels, height, width = shape
        size = (samples, height, width, channels)
        images = torch.randint(0, 256, size, device=device, dtype=torch.uint8)
        found: dict[str, Work] = {
            n: lambda n=n: ops.image_pack(images, backend=n) for n in backends
        }
        return _with_peers(found, peers, lambda f: lambda: f(images), cases.eager_pack)

    return make


def _unpack(shape: Shape, dtype: torch.dtype) -> Callable[..., dict[str, Work]]:
    def make(device: torch.device, backends: Sequence[str], peers: Sequence[str]):
        image = torch.rand(shape, device=device).to(dtype)
        noise = (torch.randn(shape, device=device) * 0.02).to(dtype)
        eps = cases.UNPACK_EPS
        found: dict[str, Work] = {
            n: lambda n=n: ops.image_unpack(image, noise, eps, backend=n) for n in backends
        }
        return _with_peers(found, peers, lambda f: lambda: f(image, noise, eps), cases.eager_unpack)

    return make


def jobs(quick: bool = False) -> list[Job]:
    """Everything, or the shapes that the CPU's benchmark has, too."""
    found = list(_all())
    return [job for job in found if job.quick] if quick else found


def _all() -> Iterator[Job]:
    maps = (cases.MAPS, (16, 512, 128, 128), (32, 1024, 14, 14), (4, 19, 512, 1024))
    for shape in maps:
        for dtype in DTYPES:
            quick, size = shape == cases.MAPS, math.prod(shape) * dtype.itemsize
            # Both maps read, the gradient written.
            name = "channelwise_kl forward+backward"
            yield Job(name, shape, dtype, 3 * size, _kl(shape, dtype, False), quick)
            if shape != maps[3]:
                name = "channelwise_kl channels_last"
                yield Job(name, shape, dtype, 3 * size, _kl(shape, dtype, True), quick)
                name = "channelwise_kl distillation"
                yield Job(name, shape, dtype, 3 * size, _distillation(shape, dtype), quick)
    for dtype in DTYPES:
        size = sum(math.prod(shape) for shape in TAPS) * dtype.itemsize
        yield Job("channelwise_kl four layers", TAPS[0], dtype, 3 * size, _taps(dtype), True)
    for shape in (cases.LOGITS, (16, 1, 1024, 1024)):
        for dtype in DTYPES:
            # Forward both logits and the mask; backward the same and both gradients.
            each = 6 * dtype.itemsize + 2
            name, work = "dual_mask forward+backward", _dual_mask(shape, dtype)
            yield Job(name, shape, dtype, math.prod(shape) * each, work, shape == cases.LOGITS)
    for shape in (cases.IMAGES, (32, 3, 1024, 1024)):
        quick, count = shape == cases.IMAGES, math.prod(shape)
        for dtype in DTYPES:
            size = count * dtype.itemsize
            # Reads and writes of the formula, as perturbation's README counts them.
            for op, times in (("clamp_project", 3), ("pgd_step_", 4), ("momentum_step_", 7)):
                yield Job(op, shape, dtype, times * size, _steps(op, shape, dtype), quick)
            yield Job("image_unpack", shape, dtype, 2 * size + count, _unpack(shape, dtype), quick)
        yield Job("image_pack", shape, FLOAT, 5 * count, _pack(shape), quick)
