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
    first_order_only,
    is_batched,
    link_to_graph,
    one_after_the_other,
    raising_backward,
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
    wide = torch.float64 in (input.dtype, target.dtype)
    shape: Sequence[int] = () if reduction else input.shape[:2]
    loss = input.new_empty(
        shape if grad_output is None else (0,), dtype=torch.float64 if wide else torch.float32
    )
    return (
        loss,
        empty_in_order(input, input) if grad_input else input.new_empty(0),
        empty_in_order(target, input) if grad_target else target.new_empty(0),
    )


def made_in_forward(*pair: Tensor) -> list[bool]:
    """For input and target: whether the forward makes the gradient."""
    wanted = [torch.is_grad_enabled() and tensor.requires_grad for tensor in pair]
    late = any(want and x.dtype == torch.float16 for want, x in zip(wanted, pair, strict=True))
    return [want and not late for want in wanted]


class ChannelwiseKL:
    def __init__(self, namespace: str, fakes: bool) -> None:
        self._namespace = namespace
        self._forward = operator(namespace, "channelwise_kl")
        self._scaled = operator(namespace, "channelwise_kl_backward")
        self._scale_ = operator(namespace, "channelwise_kl_scale_")
        names = [f"{namespace}::channelwise_kl{x}" for x in ("", "_backward", "_scale_")]
        if fakes:
            torch.library.register_fake(names[0], self._fake)
            torch.library.register_fake(names[1], lambda _, given: empty_in_order(given, given))
            torch.library.register_fake(names[2], lambda gradient, grad_output: None)
        torch.library.register_autograd(names[0], self._backward, setup_context=self._setup)
        torch.library.register_autograd(names[1], raising_backward("channelwise_kl"))
        for name, op in ((names[0], self._forward), (names[1], self._scaled)):
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
        made = made_in_forward(input, target)
        loss: Tensor = self._forward(
            input,
            target,
            temperature,
            alpha,
            direction == "input_target",
            REDUCTIONS.index(reduction),
            *made,
        )[0]
        if any(made):
            link_to_graph(loss, input, target)
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
        ctx.links = (None, None)
        ctx.save_for_backward(*((input, target) if ctx.late else output[1:]))

    def _backward(
        self, ctx: Any, grad_loss: Tensor | None, *_: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[:2]
        if ctx.late:
            input, target = ctx.saved_tensors
            wanted = self.late(input, target, ctx.options, needed, grad_loss)
        else:
            wanted = [
                self.times(gradient, grad_loss, *ctx.links) if need else None
                for gradient, need in zip(ctx.saved_tensors, needed, strict=True)
            ]
        return (*wanted, *(None,) * 7)

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
                made = self._forward(input, target, *options, *needed, grad_output)[1:]
            else:  # a factor for each row
                wide = (input.float(), target.float())
                unscaled = self._forward(*wide, *options, *needed)[1:]
                made = [
                    self._scaled(grad_output, gradient).to(like.dtype) if need else gradient
                    for gradient, like, need in zip(unscaled, (input, target), needed, strict=True)
                ]
        made_from = (grad_output, input, target)
        return [
            first_order_only(gradient, "channelwise_kl", *made_from) if need else None
            for gradient, need in zip(made, needed, strict=True)
        ]
