"""channelwise_kl of several pairs of maps, of one namespace."""

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
    records,
)
from ansm_fast.ops.channelwise_kl.options import REDUCTIONS
from ansm_fast.ops.channelwise_kl.single import (
    ChannelwiseKL,
    empty_results,
    made_in_forward,
)
from ansm_fast.ops.namespace import in_one_dtype, operator, takes_mixed_dtypes


class ChannelwiseKLLayersFunction(torch.autograd.Function):
    """The derivative of eager calls."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        kernel: ChannelwiseKLLayers,
        options: tuple,
        made: tuple[list[bool], list[bool]],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        layers = len(tensors) // 2
        sides = list(tensors[:layers]), list(tensors[layers:])
        with below_autograd():
            losses, to_inputs, to_targets = kernel.forward(*sides, *options, *made, [])
        ctx.set_materialize_grads(False)
        ctx.kernel, ctx.options, ctx.late = kernel, options, not any([*made[0], *made[1]])
        # Stands in the graph for what is not saved, and needs no memory.
        anchor = losses[0].new_empty(0)
        ctx.save_for_backward(*(tensors if ctx.late else [*to_inputs, *to_targets]), anchor)
        return (*losses, anchor)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Any, ...]:
        *saved, anchor = ctx.saved_tensors
        grad_losses, needed = grad_outputs[:-1], ctx.needs_input_grad[3:]
        layers = len(grad_losses)
        sides = needed[:layers], needed[layers:]
        firsts, seconds = ctx.kernel.gradients(ctx, saved, sides, grad_losses, anchor)
        return (None, None, None, *firsts, *seconds)


class ChannelwiseKLLayers:
    """Several pairs of maps in one call, and on a GPU in one launch."""

    def __init__(self, namespace: str, fakes: bool, single: ChannelwiseKL) -> None:
        self._namespace = namespace
        self._single = single
        self.forward = operator(namespace, "channelwise_kl_layers")
        self._differentiable = applier(ChannelwiseKLLayersFunction)
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
        made = [made_in_forward(*pair) for pair in pairs]
        if any(x.dtype == torch.float16 and x.requires_grad for pair in pairs for x in pair):
            made = [(False, False)] * len(pairs)  # one call makes all gradients in the backward
        options = temperature, alpha, direction == "input_target", REDUCTIONS.index(reduction)
        tensors = [input for input, _ in pairs], [target for _, target in pairs]
        wanted = [input for input, _ in made], [target for _, target in made]
        losses: list[Tensor]
        if torch.compiler.is_compiling():
            return self.forward(*tensors, *options, *wanted, [])[0]  # type: ignore[no-any-return]
        if any(records(*pair) for pair in pairs):
            *losses, _ = self._differentiable(self, options, wanted, *tensors[0], *tensors[1])
            return losses
        with below_autograd():
            losses = self.forward(*tensors, *options, *wanted, [])[0]
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
            empty_results(input, target, reduction, grad_input, grad_target, factor)
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
        first, second = tensors if ctx.late else (to_inputs, to_targets)
        ctx.save_for_backward(*first, *second)

    def _backward(
        self, ctx: Any, grad_losses: Sequence[Tensor | None], *_: Any
    ) -> tuple[list[Tensor | None] | None, ...]:
        wanted = self.gradients(ctx, ctx.saved_tensors, ctx.needs_input_grad[:2], grad_losses)
        return (*wanted, *(None,) * 6, [])

    def gradients(
        self,
        ctx: Any,
        saved: Sequence[Tensor],
        needed: Sequence[Sequence[bool]],
        grad_losses: Sequence[Tensor | None],
        *made_from: Tensor,
    ) -> list[list[Tensor | None]]:
        """Of inputs and targets, those that are needed."""
        layers = len(grad_losses)
        sides = saved[:layers], saved[layers:]
        if ctx.late:
            return self._late(*sides, ctx.options, needed, grad_losses)
        return [
            [
                self._single.times(gradient, grad_loss, *made_from) if need else None
                for gradient, grad_loss, need in zip(gradients, grad_losses, needs, strict=True)
            ]
            for gradients, needs in zip(sides, needed, strict=True)
        ]

    def _late(
        self,
        inputs: Sequence[Tensor],
        targets: Sequence[Tensor],
        options: Sequence[Any],
        needed: Sequence[Sequence[bool]],
        grad_losses: Sequence[Tensor | None],
    ) -> list[list[Tensor | None]]:
        given = [loss is not None for loss in grad_losses]
        needs = [
            [need and there for need, there in zip(side, given, strict=True)] for side in needed
        ]
        each = options[-1] == REDUCTIONS.index("none")  # losses of their own
        if each or any(loss is not None and is_batched(loss) for loss in grad_losses):
            share = 1 if each else len(inputs)
            pairs = [
                self._single.late(a, b, options, pair, None if loss is None else loss / share)
                for a, b, pair, loss in zip(
                    inputs, targets, zip(*needs, strict=True), grad_losses, strict=True
                )
            ]
            return [list(side) for side in zip(*pairs, strict=True)]
        zero = inputs[0].new_zeros((), dtype=torch.float32)
        factors = [zero if loss is None else loss for loss in grad_losses]
        with torch.no_grad():
            _, *made = self.forward(inputs, targets, *options, *needs, factors)
        pairs_with_loss = list(zip(grad_losses, inputs, targets, strict=True))
        return [
            [
                first_order_only(gradient, "channelwise_kl", *made_from) if need else None
                for gradient, need, made_from in zip(gradients, side, pairs_with_loss, strict=True)
            ]
            for gradients, side in zip(made, needs, strict=True)
        ]
