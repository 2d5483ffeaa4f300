"""What the derivatives of all ops share.

Each op has its derivative twice, of the same code: registered with ``torch.library``, for compilers
and for whoever calls the operator itself, and as a ``torch.autograd.Function`` for eager calls,
which costs a quarter of the registered one's time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

# Within it an operator's kernel is called at once, past what autograd has registered for it.
below_autograd = torch._C._AutoDispatchBelowAutograd


def applier(function: type[torch.autograd.Function]) -> Callable[..., Any]:
    """``function.apply`` for eager calls outside ``torch.func``, which it need not look for."""
    return super(torch.autograd.Function, function).apply  # type: ignore[misc,no-any-return]


def records(first: Tensor, second: Tensor | None = None) -> bool:
    """Whether autograd will want the derivative of a call."""
    return torch.is_grad_enabled() and (
        first.requires_grad or (second is not None and second.requires_grad)
    )


def no_second_derivative(op: str) -> NoReturn:
    raise RuntimeError(
        f"{op} has no second derivative; pass backend='reference' for double backward"
    )


class _Stop(torch.autograd.Function):
    """Identity whose backward raises: a second derivative must never be silently zero."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, op: str, *made_from: Tensor | None) -> Tensor:
        ctx.op = op
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> NoReturn:
        no_second_derivative(ctx.op)


def first_order_only(gradient: Tensor, op: str, *made_from: Tensor | None) -> Tensor:
    """``gradient``, marked so that differentiating it again raises.

    Needed because the gradient is made of saved numbers: autograd would take it for a constant.

    Args:
        made_from: what it depends on, or what stands for that in the graph. Without them a
            derivative by these alone (``autograd.grad``, ``functional.hessian``) would find no
            path, and be zero.
    """
    if not torch.is_grad_enabled() or type(gradient) is not Tensor:
        return gradient
    result: Tensor = _Stop.apply(gradient.detach().requires_grad_(), op, *made_from)
    return result


def raising_backward(op: str) -> Any:
    """A backward for a backward op."""

    def backward(ctx: Any, *grads: Tensor) -> NoReturn:
        no_second_derivative(op)

    return backward


def is_batched(tensor: Tensor) -> bool:
    """Whether ``tensor`` stands for many: a vmap's, or those of ``is_grads_batched``."""
    functorch = torch._C._functorch
    return functorch.is_batchedtensor(tensor) or functorch.is_legacy_batchedtensor(tensor)


def called_at_once(grad_output: Tensor) -> AbstractContextManager[Any]:
    """Where a backward calls an operator: past autograd, unless a compiler or vmap looks on."""
    if torch.compiler.is_compiling() or type(grad_output) is not Tensor or is_batched(grad_output):
        return nullcontext()
    return below_autograd()


def _sample(value: Any, dim: Any, index: int) -> Any:
    if dim is None:
        return value
    if isinstance(value, Tensor):
        return value.select(dim, index)
    return [_sample(one, at, index) for one, at in zip(value, dim, strict=True)]


def one_after_the_other(op: Callable[..., Any]) -> Callable[..., Any]:
    """The vmap rule of an op that knows no batches of calls: a call for each sample.

    Batched gradients come this way (``is_grads_batched``, ``jacobian(vectorize=True)``).
    """

    def rule(info: Any, in_dims: tuple, *arguments: Any) -> tuple[Any, Any]:
        results = [
            op(*(_sample(value, dim, i) for value, dim in zip(arguments, in_dims, strict=True)))
            for i in range(info.batch_size)
        ]
        stacked = pytree.tree_map(lambda *tensors: torch.stack(tensors), *results)
        return stacked, pytree.tree_map(lambda _: 0, stacked)

    return rule
