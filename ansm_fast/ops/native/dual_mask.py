"""dual_mask_loss and bce_dice_loss on the compiled library.

The forward keeps five sums for each sample and branch; the backward reads the tensors once more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.native.autograd import first_order_only, raising_backward
from ansm_fast.ops.native.layout import empty_in_order

REDUCTIONS = ("none", "sum", "mean")
_OP, _BACKWARD = "ansm_fast::dual_mask", "ansm_fast::dual_mask_backward"
_SUMS = 5
_TENSORS = 7  # leading arguments that are tensors: both logits, masks and targets, pos_weight


def call(
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
    tensor = pos_weight.detach().double() if isinstance(pos_weight, Tensor) else None
    number = 1.0 if pos_weight is None or tensor is not None else float(pos_weight)
    loss, components, _ = torch.ops.ansm_fast.dual_mask.default(
        logits, logits_orig, mask, mask_orig, bce_target, bce_target_orig, tensor,
        (weight_adv, weight_orig, bce_weight, dice_weight, number, smooth),
        ignore_index, REDUCTIONS.index(reduction),
    )  # fmt: skip
    return loss, components


@torch.library.register_fake(_OP)
def _fake(
    logits: Tensor, logits_orig: Tensor | None, *arguments: Any
) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.float64 in (logits.dtype, None if logits_orig is None else logits_orig.dtype)
    dtype = torch.float64 if wide else torch.float32
    branches, batch = 1 if logits_orig is None else 2, logits.shape[:1]
    rest = batch if arguments[-1] == 0 else ()
    return (
        logits.new_empty(rest, dtype=dtype),
        logits.new_empty((2 * branches, *rest), dtype=dtype),
        logits.new_empty((branches, *batch, _SUMS), dtype=torch.float64),
    )


@torch.library.register_fake(_BACKWARD)
def _fake_backward(
    grad_output: Tensor, sums: Tensor, logits: Tensor, logits_orig: Tensor | None, *arguments: Any
) -> tuple[Tensor, Tensor]:
    grad_logits, grad_logits_orig = arguments[-2:]
    nothing = logits.new_empty(0)
    return (
        empty_in_order(logits, logits) if grad_logits else nothing,
        empty_in_order(logits_orig, logits)
        if grad_logits_orig and logits_orig is not None
        else logits.new_empty(0),
    )


def _setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, components, sums = output
    ctx.mark_non_differentiable(components, sums)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:_TENSORS], sums)
    ctx.numbers = inputs[_TENSORS:]


def _backward(ctx: Any, grad_loss: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    unused = (None,) * (_TENSORS + len(ctx.numbers) - 2)
    if grad_loss is None:
        return None, None, *unused
    *tensors, sums = ctx.saved_tensors
    needed = ctx.needs_input_grad[:2]
    gradients = torch.ops.ansm_fast.dual_mask_backward.default(
        grad_loss, sums, *tensors, *ctx.numbers, *needed
    )
    wanted = [
        first_order_only(gradient, "dual_mask_loss") if need else None
        for gradient, need in zip(gradients, needed, strict=True)
    ]
    return (*wanted, *unused)


torch.library.register_autograd(_OP, _backward, setup_context=_setup_context)
torch.library.register_autograd(_BACKWARD, raising_backward("dual_mask_loss"))
