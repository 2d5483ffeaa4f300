"""channelwise_kl of one pair of maps, of one namespace.

The gradients are made in the forward, while the rows are on chip; the backward multiplies them by
grad_output, in place where nobody will ask for them again, and touches nothing when grad_output
is 1.

Not so those of float16: what GradScaler's factor would save must not have been rounded away before
it arrives with grad_output. There the backward makes the gradients from the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.autograd import (
    applier,
    below_autograd,
    first_order_only,
    is_batched,
    one_after_the_other,
    raising_backward,
    records,
)
from ansm_fast.ops.channelwise_kl.options import REDUCTIONS
from ansm_fast.ops.layout import empty_in_order
from ansm_fast.ops.namespace import in_one_dtype, operator

Results = tuple[Tensor, Tensor, Tensor]


def empty_results(
    input: Tensor,
    target: Tensor,
    reduction: int,
    grad_input: bool,
    grad_target: bool,
    grad_output: Tensor | None,
) -> Results:
    double = torch.float64 in (input.dtype, target.dtype)
    shape: Sequence[int] = () if reduction else input.shape[:2]
    loss = input.new_empty(
        shape if grad_output is None else (0,), dtype=torch.float64 if double else torch.float32
    )
    return (
        loss,
        empty_in_order(input, input) if grad_input else input.new_empty(0),
        empty_in_order(target, input) if grad_target else target.new_empty(0),
    )


def made_in_forward(input: Tensor, target: Tensor) -> tuple[bool, bool]:
    """For input and target: whether the forward makes the gradient."""
    if not torch.is_grad_enabled():
        return False, False
    first, second = input.requires_grad, target.requires_grad
    if (first and input.dtype == torch.float16) or (second and target.dtype == torch.float16):
        return False, False
    return first, second


class ChannelwiseKLFunction(torch.autograd.Function):
    """The derivative of eager calls."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, kernel: ChannelwiseKL, input: Tensor, target: Tensor, options: tuple, *made: bool
    ) -> tuple[Tensor, Tensor]:
        with below_autograd():
            loss, *gradients = kernel.forward(input, target, *options, *made)
        ctx.set_materialize_grads(False)
        ctx.kernel, ctx.options, ctx.late = kernel, options, not any(made)
        # Stands in the graph for what is not saved, and needs no memory.
        anchor = loss.new_empty(0)
        ctx.save_for_backward(*((input, target) if ctx.late else gradients), anchor)
        return loss, anchor

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None, _: Any) -> tuple[Any, ...]:  # type: ignore[override]
        *saved, anchor = ctx.saved_tensors
        wanted = ctx.kernel.gradients(ctx, saved, ctx.needs_input_grad[1:3], grad_loss, anchor)
        return (None, *wanted, None, None, None)


class ChannelwiseKL:
    def __init__(self, namespace: str, fakes: bool) -> None:
        self._namespace = namespace
        self.forward = operator(namespace, "channelwise_kl")
        self._scaled = operator(namespace, "channelwise_kl_backward")
        self._scale_ = operator(namespace, "channelwise_kl_scale_")
        self._differentiable = applier(ChannelwiseKLFunction)
        names = [f"{namespace}::channelwise_kl{x}" for x in ("", "_backward", "_scale_")]
        if fakes:
            torch.library.register_fake(names[0], self._fake)
            torch.library.register_fake(names[1], lambda _, given: empty_in_order(given, given))
            torch.library.register_fake(names[2], lambda gradient, grad_output: None)
        torch.library.register_autograd(names[0], self._backward, setup_context=self._setup)
        torch.library.register_autograd(names[1], raising_backward("channelwise_kl"))
        for name, op in ((names[0], self.forward), (names[1], self._scaled)):
            torch.library.register_vmap(name, one_after_the_other(op))

    def __call__(
        self,
        input: Tensor,
        target: Tensor,
        temperature: float,
        alpha: float,
        direction: str,
        reduction: str,
    ) -> Tensor:
        """The loss in the accumulation dtype."""
        input, target = in_one_dtype(self._namespace, input, target)
        options = temperature, alpha, direction == "input_target", REDUCTIONS.index(reduction)
        made = made_in_forward(input, target)
        loss: Tensor
        if torch.compiler.is_compiling():
            loss = self.forward(input, target, *options, *made)[0]
        elif records(input, target):
            loss, _ = self._differentiable(self, input, target, options, *made)
        else:
            with below_autograd():
                loss = self.forward(input, target, *options, *made)[0]
        return loss

    @staticmethod
    def _fake(
        input: Tensor,
        target: Tensor,
        temperature: float,
        alpha: float,
        input_first: bool,
        reduction: int,
        grad_input: bool,
        grad_target: bool,
        grad_output: Tensor | None = None,
    ) -> Results:
        return empty_results(input, target, reduction, grad_input, grad_target, grad_output)

    @staticmethod
    def _setup(ctx: Any, inputs: tuple, output: Results) -> None:
        input, target, *ctx.options, grad_input, grad_target = inputs[:8]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.late = not (grad_input or grad_target)
        ctx.save_for_backward(*((input, target) if ctx.late else output[1:]))

    def _backward(
        self, ctx: Any, grad_loss: Tensor | None, *_: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[:2]
        return (*self.gradients(ctx, ctx.saved_tensors, needed, grad_loss), *(None,) * 7)

    def gradients(
        self,
        ctx: Any,
        saved: Sequence[Tensor],
        needed: Sequence[bool],
        grad_loss: Tensor | None,
        *made_from: Tensor,
    ) -> list[Tensor | None]:
        """Of input and target, those that are needed."""
        if ctx.late:
            input, target = saved
            return self.late(input, target, ctx.options, needed, grad_loss)
        return [
            self.times(gradient, grad_loss, *made_from) if need else None
            for gradient, need in zip(saved, needed, strict=True)
        ]

    def times(
        self, gradient: Tensor, grad_output: Tensor | None, *made_from: Tensor | None
    ) -> Tensor | None:
        """What was made in the forward, times ``grad_output``."""
        if grad_output is None:
            return None
        # The saved buffer may be handed out only where the graph dies with this backward, and
        # only by eager PyTorch: a compiler would see a mutation of what it holds.
        keep = torch._C._autograd._get_current_graph_task_keep_graph
        dies = not keep() and not torch.is_grad_enabled()
        if type(gradient) is Tensor and dies and not is_batched(grad_output):
            with below_autograd():
                self._scale_(gradient, grad_output)
            return gradient
        scaled = self._scaled(grad_output, gradient)
        return first_order_only(scaled, "channelwise_kl", grad_output, *made_from)

    def late(
        self,
        input: Tensor,
        target: Tensor,
        options: Sequence[Any],
        needed: Sequence[bool],
        grad_output: Tensor | None,
    ) -> list[Tensor | None]:
        """Gradients made now, times ``grad_output``; ``options`` are those of the forward."""
        if grad_output is None or not any(needed):
            return [None, None]
        # Calls the op in the backward; its own derivative is none (first_order_only).
        with torch.no_grad():
            if options[-1] != REDUCTIONS.index("none"):
                made = self.forward(input, target, *options, *needed, grad_output)[1:]
            else:  # a factor for each row
                in_float32 = (input.float(), target.float())
                unscaled = self.forward(*in_float32, *options, *needed)[1:]
                made = [
                    self._scaled(grad_output, gradient).to(like.dtype) if need else gradient
                    for gradient, like, need in zip(unscaled, (input, target), needed, strict=True)
                ]
        made_from = (grad_output, input, target)
        return [
            first_order_only(gradient, "channelwise_kl", *made_from) if need else None
            for gradient, need in zip(made, needed, strict=True)
        ]
