"""clamp_project, pgd_step_ and momentum_step_ on the compiled library."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.native.autograd import first_order_only, raising_backward
from ansm_fast.ops.native.layout import empty_in_order

Budget = float | Tensor
_OP, _BACKWARD = "ansm_fast::clamp_project", "ansm_fast::clamp_project_backward"


def split(value: Budget) -> tuple[float, Tensor | None]:
    """A number, or the tensor that takes its place."""
    if isinstance(value, Tensor):
        return 0.0, value.detach().to(torch.float64).contiguous()
    return float(value), None


def clamp_project(
    image: Tensor, perturbation: Tensor, eps: Budget, norm: str, min: float, max: float
) -> Tensor:
    result: Tensor = torch.ops.ansm_fast.clamp_project.default(
        image, perturbation, *split(eps), norm == "l2", min, max
    )
    return result


@torch.no_grad()
def pgd_step_(
    adv: Tensor,
    grad: Tensor,
    image: Tensor,
    alpha: Budget,
    eps: Budget,
    norm: str,
    min: float,
    max: float,
) -> None:
    torch.ops.ansm_fast.pgd_step_.default(
        adv, grad, image, *split(alpha), *split(eps), norm == "l2", min, max
    )
    _changed(adv)


@torch.no_grad()
def momentum_step_(
    adv: Tensor,
    momentum: Tensor,
    grad: Tensor,
    image: Tensor,
    alpha: Budget,
    eps: Budget,
    decay: float,
    norm: str,
    min: float,
    max: float,
) -> None:
    torch.ops.ansm_fast.momentum_step_.default(
        adv, momentum, grad, image, *split(alpha), *split(eps), decay, norm == "l2", min, max
    )
    _changed(adv, momentum)


def _changed(*tensors: Tensor) -> None:
    # Autograd must notice where it saved a tensor that a step has since overwritten.
    if not torch.compiler.is_compiling():
        torch.autograd.graph.increment_version(tensors)


@torch.library.register_fake(_OP)
def _fake(image: Tensor, *arguments: Any) -> Tensor:
    return empty_in_order(image, image)


@torch.library.register_fake(_BACKWARD)
def _fake_backward(
    grad_output: Tensor, image: Tensor, perturbation: Tensor, *arguments: Any
) -> tuple[Tensor, Tensor]:
    grad_image, grad_perturbation = arguments[-2:]
    return (
        empty_in_order(image, image) if grad_image else image.new_empty(0),
        empty_in_order(perturbation, image) if grad_perturbation else perturbation.new_empty(0),
    )


@torch.library.register_fake("ansm_fast::pgd_step_")
def _fake_pgd_step(*arguments: Any) -> None:
    return None


@torch.library.register_fake("ansm_fast::momentum_step_")
def _fake_momentum_step(*arguments: Any) -> None:
    return None


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    image, perturbation, eps, sample_eps, *ctx.rest = inputs
    ctx.eps = eps
    ctx.save_for_backward(image, perturbation, sample_eps)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    image, perturbation, sample_eps = ctx.saved_tensors
    needed = ctx.needs_input_grad[:2]
    gradients = torch.ops.ansm_fast.clamp_project_backward.default(
        grad_output, image, perturbation, ctx.eps, sample_eps, *ctx.rest, *needed
    )
    wanted = [
        first_order_only(gradient, "clamp_project") if need else None
        for gradient, need in zip(gradients, needed, strict=True)
    ]
    return (*wanted, *(None,) * 5)


torch.library.register_autograd(_OP, _backward, setup_context=_setup_context)
torch.library.register_autograd(_BACKWARD, raising_backward("clamp_project"))
