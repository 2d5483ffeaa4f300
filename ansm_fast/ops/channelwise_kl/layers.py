"""channelwise_kl of several pairs of maps, of one namespace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.autograd import first_order_only, is_batched, link_to_graph
from ansm_fast.ops.channelwise_kl.options import REDUCTIONS
from ansm_fast.ops.channelwise_kl.single import (
    ChannelwiseKL,
    empty_results,
    made_in_forward,
)
from ansm_fast.ops.namespace import in_one_dtype, operator, takes_mixed_dtypes


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
        made = [made_in_forward(*pair) for pair in pairs]
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
