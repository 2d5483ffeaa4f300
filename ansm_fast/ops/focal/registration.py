"""The operators of focal_loss.

The forward keeps the number of pixels; the backward reads the tensors once more.
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
from ansm_fast.ops.dtypes import accumulation_dtype
from ansm_fast.ops.layout import empty_in_order
from ansm_fast.ops.mask_checks import REDUCTIONS
from ansm_fast.ops.namespace import operator

FUNCTIONS = ("focal_loss",)
SCHEMAS = {
    # (loss, count): for reduction "none" the loss of each pixel in `dtype`, which is that of the
    # logits or float32, and an empty count; else one number in float32 or float64, and the number
    # of pixels that are not ignored. `options` are alpha (negative: none), gamma and pos_weight
    # (unless given as a tensor). `reduction` counts in mask_checks.REDUCTIONS.
    "focal": (
        "(Tensor logits, Tensor mask, Tensor? pos_weight, float[] options, int? ignore_index, "
        "int reduction, ScalarType dtype) -> (Tensor, Tensor)"
    ),
    "focal_backward": (
        "(Tensor grad_output, Tensor count, Tensor logits, Tensor mask, Tensor? pos_weight, "
        "float[] options, int? ignore_index, int reduction) -> Tensor"
    ),
}
_NONE = REDUCTIONS.index("none")


class FocalFunction(torch.autograd.Function):
    """The derivative of eager calls."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, kernel: Focal, logits: Tensor, others: tuple, dtype: torch.dtype
    ) -> Tensor:
        mask, pos_weight, *numbers = others
        with below_autograd():
            loss, count = kernel.forward(logits, *others, dtype)
        ctx.save_for_backward(logits, mask, pos_weight, count)
        ctx.kernel, ctx.numbers = kernel, numbers
        return loss  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        return None, ctx.kernel.gradient(ctx.saved_tensors, ctx.numbers, grad_loss), None, None


class Focal:
    def __init__(self, namespace: str, fakes: bool) -> None:
        self.forward = operator(namespace, "focal")
        self._differentiable = applier(FocalFunction)
        self._gradient = operator(namespace, "focal_backward")
        name, backward = f"{namespace}::focal", f"{namespace}::focal_backward"
        if fakes:
            torch.library.register_fake(name, self._fake)
            torch.library.register_fake(backward, self._fake_gradient)
        torch.library.register_autograd(name, self._backward, setup_context=self._setup)
        torch.library.register_autograd(backward, raising_backward("focal_loss"))
        torch.library.register_vmap(backward, one_after_the_other(self._gradient))

    def __call__(
        self,
        logits: Tensor,
        mask: Tensor,
        *,
        alpha: float,
        gamma: float,
        pos_weight: float | Tensor | None,
        ignore_index: int | None,
        reduction: str,
        dtype: torch.dtype,
    ) -> Tensor:
        """The loss of each pixel in ``dtype``, or of all in the accumulation dtype."""
        tensor, number = None, 1.0
        if isinstance(pos_weight, Tensor):
            tensor = pos_weight.detach().double().to(logits.device)
        elif pos_weight is not None:
            number = float(pos_weight)
        others = (
            mask, tensor, (float(alpha), float(gamma), number), ignore_index,
            REDUCTIONS.index(reduction),
        )  # fmt: skip
        loss: Tensor
        if torch.compiler.is_compiling():
            loss, _ = self.forward(logits, *others, dtype)
        elif records(logits):
            loss = self._differentiable(self, logits, others, dtype)
        else:
            with below_autograd():
                loss, _ = self.forward(logits, *others, dtype)
        return loss

    @staticmethod
    def _fake(
        logits: Tensor, mask: Tensor, pos_weight: Tensor | None, options: Any, ignore_index: Any,
        reduction: int, dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        if reduction == _NONE:
            loss = empty_in_order(logits, logits, dtype)
            return loss, logits.new_empty(0, dtype=torch.float64)
        loss = logits.new_empty((), dtype=accumulation_dtype(logits.dtype))
        return loss, logits.new_empty(1, dtype=torch.float64)

    @staticmethod
    def _fake_gradient(
        grad_output: Tensor, count: Tensor, logits: Tensor, *arguments: Any
    ) -> Tensor:
        return empty_in_order(logits, logits)

    @staticmethod
    def _setup(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        logits, mask, pos_weight, *numbers, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, mask, pos_weight, output[1])
        ctx.numbers = numbers

    def _backward(
        self, ctx: Any, grad_loss: Tensor | None, _: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        unused = (None,) * 6
        if grad_loss is None or not ctx.needs_input_grad[0]:
            return None, *unused
        return self.gradient(ctx.saved_tensors, ctx.numbers, grad_loss), *unused

    def gradient(
        self, saved: Sequence[Tensor], numbers: Sequence[Any], grad_loss: Tensor
    ) -> Tensor:
        """Of the logits."""
        logits, mask, pos_weight, count = saved
        with called_at_once(grad_loss):
            gradient = self._gradient(grad_loss, count, logits, mask, pos_weight, *numbers)
        return first_order_only(gradient, "focal_loss", grad_loss, logits)


def bind(namespace: str, *, fakes: bool) -> dict[str, Callable[..., Any]]:
    return {"focal": Focal(namespace, fakes)}
