"""What the backwards of all ops share."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor


def no_second_derivative(op: str) -> NoReturn:
    raise RuntimeError(
        f"{op} has no second derivative; pass backend='reference' for double backward"
    )


class _Stop(torch.autograd.Function):
    """Identity whose backward raises: a second derivative must never be silently zero."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, op: str) -> Tensor:
        ctx.op = op
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> NoReturn:
        no_second_derivative(ctx.op)


def first_order_only(gradient: Tensor, op: str) -> Tensor:
    """``gradient``, marked so that differentiating it again raises.

    Needed because the gradient is made of saved numbers: autograd would take it for a constant.
    """
    if not torch.is_grad_enabled() or type(gradient) is not Tensor:
        return gradient
    result: Tensor = _Stop.apply(gradient.detach().requires_grad_(), op)
    return result


def raising_backward(op: str) -> Any:
    """A backward for a backward op."""

    def backward(ctx: Any, *grads: Tensor) -> NoReturn:
        no_second_derivative(op)

    return backward
