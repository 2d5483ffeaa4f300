"""What the backwards of all ops share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


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
        made_from: what it depends on, ``links`` to such, or None. Without them a derivative by
            these alone (``autograd.grad``, ``functional.hessian``) would find no path, and be zero.
    """
    if not torch.is_grad_enabled() or type(gradient) is not Tensor:
        return gradient
    result: Tensor = _Stop.apply(gradient.detach().requires_grad_(), op, *made_from)
    return result


def link_to_graph(loss: Tensor, *made_from: Tensor) -> None:
    """Keep for the backward of ``loss``, as ``links``, what ``first_order_only`` wants of tensors
    that are not saved: tensors without elements in their graphs, and none of their memory."""
    if torch.compiler.is_compiling() or loss.grad_fn is None:
        return
    loss.grad_fn.links = [  # type: ignore[attr-defined]
        torch.slice_copy(one, 0, 0, 0)
        if one.requires_grad and type(one) in (Tensor, torch.nn.Parameter)
        else None
        for one in made_from
    ]


def raising_backward(op: str) -> Any:
    """A backward for a backward op."""

    def backward(ctx: Any, *grads: Tensor) -> NoReturn:
        no_second_derivative(op)

    return backward


def is_batched(tensor: Tensor) -> bool:
    """Whether ``tensor`` stands for many: a vmap's, or those of ``is_grads_batched``."""
    functorch = torch._C._functorch
    return functorch.is_batchedtensor(tensor) or functorch.is_legacy_batchedtensor(tensor)


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
