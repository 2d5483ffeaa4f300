"""Calls of the operators of perturbation: their truth, and the bytes that they have to move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.cases import DOUBLE, FLOAT, Call, by_size, drawn, laid_out, size_of
from ansm_fast.ops.perturbation import reference

STEP_BACK = 3.0  # times a half type's bound: the budget may take it one step back


# --- truth ----------------------------------------------------------------------------------------


def budget_of(number: float, tensor: Tensor | None) -> Any:
    return number if tensor is None else tensor if tensor.numel() > 1 else tensor.reshape(())


def norm_of(l2: bool) -> str:
    return "l2" if l2 else "linf"


def project_truth(
    image: Tensor, noise: Tensor, eps: float, sample_eps: Tensor | None, l2: bool, low: float,
    high: float,
) -> list[Tensor]:  # fmt: skip
    budget = budget_of(eps, sample_eps)
    return [reference.clamp_project(image, noise, budget, norm=norm_of(l2), min=low, max=high)]


def project_backward_truth(grad: Tensor, image: Tensor, noise: Tensor, *rest: Any) -> list[Tensor]:
    *limits, want_image, want_noise = rest
    leaves = [x.detach().requires_grad_() for x in (image, noise)]
    moved = project_truth(leaves[0], leaves[1], *limits)[0]
    gradients = torch.autograd.grad(moved, leaves, grad)
    wanted = zip(gradients, (want_image, want_noise), strict=True)
    return [g if w else g.new_empty(0) for g, w in wanted]


def pgd_truth(
    adv: Tensor, grad: Tensor, image: Tensor, alpha: float, sample_alpha: Tensor | None,
    eps: float, sample_eps: Tensor | None, l2: bool, low: float, high: float,
) -> list[Tensor]:  # fmt: skip
    budgets, norm = (budget_of(alpha, sample_alpha), budget_of(eps, sample_eps)), norm_of(l2)
    adv = adv.clone()
    return [reference.pgd_step_(adv, grad, image, *budgets, norm=norm, min=low, max=high)]


def momentum_truth(
    adv: Tensor, momentum: Tensor, grad: Tensor, image: Tensor, alpha: float,
    sample_alpha: Tensor | None, eps: float, sample_eps: Tensor | None, decay: float, l2: bool,
    low: float, high: float,
) -> list[Tensor]:  # fmt: skip
    budgets = budget_of(alpha, sample_alpha), budget_of(eps, sample_eps)
    after = momentum.clone()
    moved = reference.momentum_step_(
        adv.clone(), after, grad, image, *budgets, decay=decay, norm=norm_of(l2), min=low, max=high
    )
    return [moved, after]


# --- calls ----------------------------------------------------------------------------------------


def calls(dtype: torch.dtype, layout: str) -> Iterator[Call]:
    for shape in ((2, 3, 24, 32), (3, 3, 17, 13)):
        image = laid_out(torch.rand(shape).to(dtype), layout)
        noise, grad = (laid_out((torch.randn(shape) * s).to(dtype), layout) for s in (0.1, 1.0))
        adv = (image + noise * 0.2).clamp(0, 1)
        size, batch = size_of(image), shape[0]
        block = 4096 // image.element_size()
        part = batch * -(-(image.numel() // batch) // block) * 8  # a sum of each block
        for l2 in (False, True):
            # In l2 some budgets bind and some do not.
            each = torch.linspace(0.02, 40.0 if l2 else 0.2, batch, dtype=DOUBLE)
            for sample_eps in (None, each):
                limits = (0.05, sample_eps, l2, 0.0, 1.0)
                label = f"{by_size(shape)} {norm_of(l2)}"
                label += "" if sample_eps is None else " per sample"
                eps = size_of(sample_eps)
                shrink = size + 2 * part + eps + 2 * batch * 8 if l2 else 0
                least = 3 * size + shrink + (batch * 8 if l2 else eps)
                yield Call(
                    "clamp_project", label, (image, noise, *limits), project_truth, least,
                    half_bound=STEP_BACK,
                )  # fmt: skip
                least = 5 * size + shrink + (batch * 16 if l2 else eps)
                if l2:
                    least += 3 * size + batch * 8 + 2 * part + eps + 2 * batch * 8
                arguments: tuple[Any, ...] = (grad, image, noise, *limits, True, True)
                yield Call(
                    "clamp_project_backward", label, arguments, project_backward_truth, least
                )
                least = 4 * size + eps
                if l2:
                    least = 4 * size + 3 * size + 6 * part + eps + 2 * 16 * batch
                arguments = (adv.clone(), grad, image, 0.03, None, *limits)
                yield Call(
                    "pgd_step_", label, arguments, pgd_truth, least, (0,), half_bound=STEP_BACK
                )
                least = 6 * size + size + 2 * part + 2 * 8 * batch + eps
                if l2:
                    least = 6 * size + 4 * size + 14 * part + 2 * 24 * batch + eps
                arguments = (adv.clone(), noise.clone(), grad, image, 0.03, None, *limits[:2], 0.8)
                arguments = (*arguments, *limits[2:])
                yield Call(
                    "momentum_step_", label, arguments, momentum_truth, least, (0, 1),
                    half_bound=STEP_BACK,
                )  # fmt: skip


def traffic(dtype: torch.dtype) -> Iterator[Call]:
    for shape in ((2, 3, 96, 128), (2, 3, 97, 127)):
        image, noise, grad, momentum = (drawn(shape, dtype) for _ in range(4))
        size, aligned = size_of(image), shape[-1] % 8 == 0
        for l2 in (False, True):
            limits = (0.05, None, l2, 0.0, 1.0)
            step = (0.01, None, *limits)
            momentum_step = (momentum.clone(), grad, image, *step[:4], 0.9, *limits[2:])
            given: dict[str, tuple[tuple[Any, ...], int]] = {
                "clamp_project": ((image, noise, *limits), 4 if l2 else 3),
                "clamp_project_backward": (
                    (grad, image, noise, *limits, True, True), 9 if l2 else 5,
                ),
                "pgd_step_": ((image.clone(), grad, image, *step), 7 if l2 else 4),
                "momentum_step_": ((image.clone(), *momentum_step), 10 if l2 else 7),
            }  # fmt: skip
            for op, (arguments, passes) in given.items():
                yield Call(op, norm_of(l2), arguments, minimum=passes * size, aligned=aligned)


def opchecks(layout: str) -> Iterator[Call]:
    def draw() -> Tensor:
        return drawn((2, 3, 4, 5), FLOAT, layout)

    a, b = draw().requires_grad_(), draw().requires_grad_()
    each = torch.full((2,), 0.1, dtype=DOUBLE)
    for l2 in (False, True):
        limits = (0.1, None, l2, 0.0, 1.0)
        step = (draw(), draw(), 0.0, each, 0.1, None, 0.9, l2, 0.0, 1.0)
        given: list[tuple[str, tuple[Any, ...]]] = [
            ("clamp_project", (a, b, *limits)),
            ("clamp_project", (a, b, 0.0, each, l2, 0.0, 1.0)),
            ("clamp_project_backward", (draw(), draw(), draw(), *limits, True, True)),
            ("pgd_step_", (draw(), draw(), draw(), 0.1, None, *limits)),
            ("momentum_step_", (draw(), draw(), *step)),
        ]
        for op, arguments in given:
            yield Call(op, f"{layout} {norm_of(l2)}", arguments)


def compiled(dtype: torch.dtype, brief: bool) -> Iterator[Call]:
    for side in (256,) if brief else (256, 255):
        adv, image, noise, grad = (torch.empty((2, 3, side, side), dtype=dtype) for _ in range(4))
        each = torch.empty(2, dtype=DOUBLE)
        for l2 in (False, True):
            for eps in (None, each):
                limits = (0.1, eps, l2, 0.0, 1.0)
                label = f"{side}x{side} {norm_of(l2)}" + ("" if eps is None else " per sample")
                step = (0.1, eps, *limits)
                given: dict[str, tuple[Any, ...]] = {
                    "clamp_project": (image, noise, *limits),
                    "clamp_project_backward": (grad, image, noise, *limits, True, True),
                    "pgd_step_": (adv, grad, image, *step),
                    "momentum_step_": (adv, noise, grad, image, *step[:4], 0.9, *limits[2:]),
                }
                for op, arguments in given.items():
                    yield Call(op, label, arguments, aligned=side % 2 == 0)
