"""The operators of dual_mask_loss and bce_dice_loss.

The forward keeps five sums for each sample and branch; the backward reads the tensors once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.autograd import (
    applier,
    below_autograd,
    called_at_once,
    first_order_only,
    one_after_the_other,
    raising_backward,
    records,
)
from ansm_fast.ops.layout import empty_in_order
from ansm_fast.ops.mask_checks import REDUCTIONS
from ansm_fast.ops.namespace import in_one_dtype, operator

FUNCTIONS = ("dual_mask_loss", "bce_dice_loss")
SCHEMAS = {
    # (loss, components, sums): one branch, or two where logits_orig is given. `sums` is what the
    # backward needs: for each branch and sample the sums of BCE, probability * mask, probability,
    # mask, and the number of valid pixels. `weights` are weight, weight_orig, bce_weight,
    # dice_weight, pos_weight (unless given as a tensor) and smooth: few arguments, since torch
    # spends time on each. `reduction` counts in mask_checks.REDUCTIONS.
    "dual_mask": (
        "(Tensor logits, Tensor? logits_orig, Tensor mask, Tensor? mask_orig, Tensor? bce_target, "
        "Tensor? bce_target_orig, Tensor? pos_weight, float[] weights, int? ignore_index, "
        "int reduction) -> (Tensor, Tensor, Tensor)"
    ),
    # A gradient that is not asked for is an empty tensor.
    "dual_mask_backward": (
        "(Tensor grad_output, Tensor sums, Tensor logits, Tensor? logits_orig, Tensor mask, "
        "Tensor? mask_orig, Tensor? bce_target, Tensor? bce_target_orig, Tensor? pos_weight, "
        "float[] weights, int? ignore_index, int reduction, bool grad_logits, "
        "bool grad_logits_orig) -> (Tensor, Tensor)"
    ),
}
_SUMS = 5
_TENSORS = 7  # leading arguments that are tensors: both logits, masks and targets, pos_weight


class DualMaskFunction(torch.autograd.Function):
    """The derivative of eager calls."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, kernel: DualMask, numbers: tuple, *tensors: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        with below_autograd():
            loss, components, sums = kernel.forward(*tensors, *numbers)
        ctx.mark_non_differentiable(components)
        ctx.set_materialize_grads(False)
        ctx.kernel, ctx.numbers = kernel, numbers
        ctx.save_for_backward(*tensors, sums)
        return loss, components

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None, _: Any) -> tuple[Any, ...]:  # type: ignore[override]
        needed = ctx.needs_input_grad[2:4]
        wanted = ctx.kernel.gradients(ctx.saved_tensors, ctx.numbers, needed, grad_loss)
        return (None, None, *wanted, *(None,) * (_TENSORS - 2))


class DualMask:
    def __init__(self, namespace: str, fakes: bool) -> None:
        self._namespace = namespace
        self.forward = operator(namespace, "dual_mask")
        self._differentiable = applier(DualMaskFunction)
        self._gradients = operator(namespace, "dual_mask_backward")
        name, backward = f"{namespace}::dual_mask", f"{namespace}::dual_mask_backward"
        if fakes:
            torch.library.register_fake(name, self._fake)
            torch.library.register_fake(backward, self._fake_gradients)
        torch.library.register_autograd(name, self._backward, setup_context=self._setup)
        torch.library.register_autograd(backward, raising_backward("dual_mask_loss"))
        torch.library.register_vmap(backward, one_after_the_other(self._gradients))

    def __call__(
        self,
        logits: Tensor,
        logits_orig: Tensor | None,
        mask: Tensor,
        mask_orig: Tensor | None,
        *,
        weight_adv: float,
        weight_orig: float,
        bce_weight: float,
        dice_weight: float,
        bce_target: Tensor | None,
        bce_target_orig: Tensor | None,
        pos_weight: float | Tensor | None,
        smooth: float,
        ignore_index: int | None,
        reduction: str,
    ) -> tuple[Tensor, Tensor]:
        """Loss and components in the accumulation dtype."""
        if logits_orig is not None:
            logits, logits_orig = in_one_dtype(self._namespace, logits, logits_orig)
        tensor = pos_weight.detach().double() if isinstance(pos_weight, Tensor) else None
        if tensor is not None:
            tensor = tensor.to(logits.device)
        number = 1.0 if pos_weight is None or tensor is not None else float(pos_weight)
        tensors = logits, logits_orig, mask, mask_orig, bce_target, bce_target_orig, tensor
        numbers = (
            (weight_adv, weight_orig, bce_weight, dice_weight, number, smooth),
            ignore_index, REDUCTIONS.index(reduction),
        )  # fmt: skip
        loss: Tensor
        components: Tensor
        if torch.compiler.is_compiling():
            loss, components, _ = self.forward(*tensors, *numbers)
        elif records(logits, logits_orig):
            loss, components = self._differentiable(self, numbers, *tensors)
        else:
            with below_autograd():
                loss, components, _ = self.forward(*tensors, *numbers)
        return loss, components

    @staticmethod
    def _fake(
        logits: Tensor, logits_orig: Tensor | None, *arguments: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        double = torch.float64 in (logits.dtype, None if logits_orig is None else logits_orig.dtype)
        dtype = torch.float64 if double else torch.float32
        branches, batch = 1 if logits_orig is None else 2, logits.shape[:1]
        rest = batch if arguments[-1] == 0 else ()
        return (
            logits.new_empty(rest, dtype=dtype),
            logits.new_empty((2 * branches, *rest), dtype=dtype),
            logits.new_empty((branches, *batch, _SUMS), dtype=torch.float64),
        )

    @staticmethod
    def _fake_gradients(
        grad_output: Tensor,
        sums: Tensor,
        logits: Tensor,
        logits_orig: Tensor | None,
        *arguments: Any,
    ) -> tuple[Tensor, Tensor]:
        grad_logits, grad_logits_orig = arguments[-2:]
        nothing = logits.new_empty(0)
        return (
            empty_in_order(logits, logits) if grad_logits else nothing,
            empty_in_order(logits_orig, logits)
            if grad_logits_orig and logits_orig is not None
            else logits.new_empty(0),
        )

    @staticmethod
    def _setup(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
        _, components, sums = output
        ctx.mark_non_differentiable(components, sums)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:_TENSORS], sums)
        ctx.numbers = inputs[_TENSORS:]

    def _backward(
        self, ctx: Any, grad_loss: Tensor | None, *_: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        wanted = self.gradients(ctx.saved_tensors, ctx.numbers, ctx.needs_input_grad[:2], grad_loss)
        return (*wanted, *(None,) * (_TENSORS + len(ctx.numbers) - 2))

    def gradients(
        self,
        saved: Sequence[Tensor | None],
        numbers: Sequence[Any],
        needed: Sequence[bool],
        grad_loss: Tensor | None,
    ) -> list[Tensor | None]:
        """Of both logits, those that are needed."""
        if grad_loss is None:
            return [None, None]
        *tensors, sums = saved
        with called_at_once(grad_loss):
            gradients = self._gradients(grad_loss, sums, *tensors, *numbers, *needed)
        return [
            first_order_only(gradient, "dual_mask_loss", grad_loss, logits) if need else None
            for gradient, logits, need in zip(gradients, tensors[:2], needed, strict=True)
        ]


def bind(namespace: str, *, fakes: bool) -> dict[str, Callable[..., Any]]:
    return {"dual_mask": DualMask(namespace, fakes)}
