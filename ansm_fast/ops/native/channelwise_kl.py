"""channelwise_kl of one namespace.

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

from ansm_fast.ops.native.autograd import (
    first_order_only,
    is_batched,
    link_to_graph,
    one_after_the_other,
    raising_backward,
)
from ansm_fast.ops.native.layout import empty_in_order
from ansm_fast.ops.native.op import in_one_dtype, operator, takes_mixed_dtypes

REDUCTIONS = ("none", "sum", "batchmean", "channelmean", "mean")
Results = tuple[Tensor, Tensor, Tensor]


def _empty_results(
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


def _made_in_forward(*pair: Tensor) -> list[bool]:
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
        made = _made_in_forward(input, target)
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
        return _empty_results(input, target, reduction, grad_input, grad_target, grad_output)

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


class ChannelwiseKLLayers:
    """Several pairs of maps in one call, and on a GPU in one launch."""

    def __init__(self, namespace: str, fakes: bool, single: ChannelwiseKL) -> None:
        self._namespace = namespace
        self._single = single
        self._forward = operator(namespace, "channelwise_kl_layers")
        name = f"{namespace}::channelwise_kl_layers"
        if fakes:
            torch.library.register_fake(name, self._fake)
        torch.library.register_autograd(name, self._backward, setup_context=self._setup)

    def takes(self, inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> bool:
        """Whether one call serves all pairs: on a GPU they must share a device and a dtype."""
        if takes_mixed_dtypes(self._namespace, inputs[0]):
            return True
        pairs = zip(inputs, targets, strict=True)
        dtypes = {torch.promote_types(a.dtype, b.dtype) for a, b in pairs}
        return len(dtypes) == 1 and len({a.device for a in inputs}) == 1

    def __call__(
        self,
        inputs: Sequence[Tensor],
        targets: Sequence[Tensor],
        temperature: float,
        alpha: float,
        direction: str,
        reduction: str,
    ) -> list[Tensor]:
        """The losses in the accumulation dtype, which add up to their mean unless there is one
        for each row: so no gradient is scaled again in the backward."""
        pairs = [
            in_one_dtype(self._namespace, input, target)
            for input, target in zip(inputs, targets, strict=True)
        ]
        made = [_made_in_forward(*pair) for pair in pairs]
        if any(x.dtype == torch.float16 and x.requires_grad for pair in pairs for x in pair):
            made = [[False, False]] * len(pairs)  # one call makes all gradients in the backward
        losses: list[Tensor] = self._forward(
            [input for input, _ in pairs],
            [target for _, target in pairs],
            temperature,
            alpha,
            direction == "input_target",
            REDUCTIONS.index(reduction),
            [input for input, _ in made],
            [target for _, target in made],
            [],
        )[0]
        if any(map(any, made)):
            link_to_graph(losses[0], *(input for input, _ in pairs), *(other for _, other in pairs))
        return losses

    @staticmethod
    def _fake(
        inputs: Sequence[Tensor],
        targets: Sequence[Tensor],
        temperature: float,
        alpha: float,
        input_first: bool,
        reduction: int,
        grad_inputs: Sequence[bool],
        grad_targets: Sequence[bool],
        grad_outputs: Sequence[Tensor],
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        factors: Sequence[Tensor | None] = grad_outputs or [None] * len(inputs)
        results = [
            _empty_results(input, target, reduction, grad_input, grad_target, factor)
            for input, target, grad_input, grad_target, factor in zip(
                inputs, targets, grad_inputs, grad_targets, factors, strict=True
            )
        ]
        return [a for a, _, _ in results], [b for _, b, _ in results], [c for _, _, c in results]

    @staticmethod
    def _setup(ctx: Any, inputs: tuple, output: tuple[list[Tensor], ...]) -> None:
        _, to_inputs, to_targets = output
        *tensors, ctx.options = inputs[0], inputs[1], inputs[2:6]
        ctx.mark_non_differentiable(*to_inputs, *to_targets)
        ctx.set_materialize_grads(False)
        ctx.late = not any([*inputs[6], *inputs[7]])
        ctx.links = (None,) * 2 * len(inputs[0])
        first, second = tensors if ctx.late else (to_inputs, to_targets)
        ctx.save_for_backward(*first, *second)

    def _backward(
        self, ctx: Any, grad_losses: Sequence[Tensor | None], *_: Any
    ) -> tuple[list[Tensor | None] | None, ...]:
        layers = len(grad_losses)
        firsts, seconds = ctx.saved_tensors[:layers], ctx.saved_tensors[layers:]
        needs_first, needs_second = ctx.needs_input_grad[:2]
        if ctx.late:
            wanted = self._late(ctx, firsts, seconds, grad_losses)
        else:
            pairs = list(zip(ctx.links[:layers], ctx.links[layers:], strict=True))
            wanted = [
                [
                    self._single.times(gradient, grad_loss, *pair) if needed else None
                    for gradient, grad_loss, needed, pair in zip(
                        gradients, grad_losses, needs, pairs, strict=True
                    )
                ]
                for gradients, needs in ((firsts, needs_first), (seconds, needs_second))
            ]
        return (*wanted, *(None,) * 6, [])

    def _late(
        self,
        ctx: Any,
        inputs: Sequence[Tensor],
        targets: Sequence[Tensor],
        grad_losses: Sequence[Tensor | None],
    ) -> list[list[Tensor | None]]:
        given = [loss is not None for loss in grad_losses]
        needs = [
            [need and there for need, there in zip(needed, given, strict=True)]
            for needed in ctx.needs_input_grad[:2]
        ]
        each = ctx.options[-1] == REDUCTIONS.index("none")  # losses of their own
        if each or any(loss is not None and is_batched(loss) for loss in grad_losses):
            share = 1 if each else len(inputs)
            pairs = [
                self._single.late(a, b, ctx.options, needed, None if loss is None else loss / share)
                for a, b, needed, loss in zip(
                    inputs, targets, zip(*needs, strict=True), grad_losses, strict=True
                )
            ]
            return [list(side) for side in zip(*pairs, strict=True)]
        zero = inputs[0].new_zeros((), dtype=torch.float32)
        factors = [zero if loss is None else loss for loss in grad_losses]
        with torch.no_grad():
            _, *made = self._forward(inputs, targets, *ctx.options, *needs, factors)
        pairs_with_loss = list(zip(grad_losses, inputs, targets, strict=True))
        return [
            [
                first_order_only(gradient, "channelwise_kl", *made_from) if need else None
                for gradient, need, made_from in zip(
                    gradients, needed, pairs_with_loss, strict=True
                )
            ]
            for gradients, needed in zip(made, needs, strict=True)
        ]
