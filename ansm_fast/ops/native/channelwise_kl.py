"""channelwise_kl of one namespace.

The gradients are made in the forward, while the rows are on chip; the backward multiplies them by
grad_output, in place where nobody will ask for them again, and touches nothing when grad_output
is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.native.autograd import first_order_only, raising_backward
from ansm_fast.ops.native.layout import empty_in_order
from ansm_fast.ops.native.op import in_one_dtype, operator, takes_mixed_dtypes

REDUCTIONS = ("none", "sum", "batchmean", "channelmean", "mean")
Results = tuple[Tensor, Tensor, Tensor]


def _empty_results(
    input: Tensor, target: Tensor, reduction: int, grad_input: bool, grad_target: bool
) -> Results:
    wide = torch.float64 in (input.dtype, target.dtype)
    loss = input.new_empty(
        input.shape[:2] if reduction == 0 else (), dtype=torch.float64 if wide else torch.float32
    )
    return (
        loss,
        empty_in_order(input, input) if grad_input else input.new_empty(0),
        empty_in_order(target, input) if grad_target else target.new_empty(0),
    )


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
        grad = torch.is_grad_enabled()
        input, target = in_one_dtype(self._namespace, input, target)
        loss: Tensor = self._forward(
            input,
            target,
            temperature,
            alpha,
            direction == "input_target",
            REDUCTIONS.index(reduction),
            grad and input.requires_grad,
            grad and target.requires_grad,
        )[0]
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
    ) -> Results:
        return _empty_results(input, target, reduction, grad_input, grad_target)

    @staticmethod
    def _setup(ctx: Any, inputs: tuple, output: Results) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output[1:])

    def _backward(
        self, ctx: Any, grad_loss: Tensor | None, *_: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        wanted = [
            self.times(gradient, grad_loss) if needed else None
            for gradient, needed in zip(ctx.saved_tensors, ctx.needs_input_grad[:2], strict=True)
        ]
        return (*wanted, *(None,) * 6)

    def times(self, gradient: Tensor, grad_output: Tensor | None) -> Tensor | None:
        """What was made in the forward, times ``grad_output``."""
        if grad_output is None:
            return None
        # The saved buffer may be handed out only where the graph dies with this backward, and
        # only by eager PyTorch: a compiler would see a mutation of what it holds.
        keep = torch._C._autograd._get_current_graph_task_keep_graph
        if type(gradient) is Tensor and not keep():
            self._scale_(gradient, grad_output)
            return gradient
        return first_order_only(self._scaled(grad_output, gradient), "channelwise_kl")


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
        grad = torch.is_grad_enabled()
        pairs = [
            in_one_dtype(self._namespace, input, target)
            for input, target in zip(inputs, targets, strict=True)
        ]
        losses: list[Tensor] = self._forward(
            [input for input, _ in pairs],
            [target for _, target in pairs],
            temperature,
            alpha,
            direction == "input_target",
            REDUCTIONS.index(reduction),
            [grad and input.requires_grad for input, _ in pairs],
            [grad and target.requires_grad for _, target in pairs],
        )[0]
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
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        results = [
            _empty_results(input, target, reduction, grad_input, grad_target)
            for input, target, grad_input, grad_target in zip(
                inputs, targets, grad_inputs, grad_targets, strict=True
            )
        ]
        return [a for a, _, _ in results], [b for _, b, _ in results], [c for _, _, c in results]

    @staticmethod
    def _setup(ctx: Any, inputs: tuple, output: tuple[list[Tensor], ...]) -> None:
        _, to_inputs, to_targets = output
        ctx.mark_non_differentiable(*to_inputs, *to_targets)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*to_inputs, *to_targets)

    def _backward(
        self, ctx: Any, grad_losses: Sequence[Tensor | None], *_: Any
    ) -> tuple[list[Tensor | None] | None, ...]:
        layers = len(grad_losses)
        saved = ctx.saved_tensors
        wanted = [
            [
                self._single.times(gradient, grad_loss) if needed else None
                for gradient, grad_loss, needed in zip(gradients, grad_losses, needs, strict=True)
            ]
            for gradients, needs in zip(
                (saved[:layers], saved[layers:]), ctx.needs_input_grad[:2], strict=True
            )
        ]
        return (*wanted, *(None,) * 6)
