"""dual_mask: the shapes of its launches. The arithmetic: kernels/dual_mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ansm_fast.kernels.common.triton_numbers import sum_kernel, words
from ansm_fast.kernels.dual_mask.triton_kernel import (
    SUMS,
    combine_kernel,
    gradient_kernel,
    parts_kernel,
)
from ansm_fast.ops.layout import empty_in_order
from ansm_fast.ops.mask_checks import REDUCTIONS
from ansm_fast.ops.triton_launch import (
    cdiv,
    check,
    check_floating,
    check_shape,
    define,
    elements_of_sample,
    in_order,
    is_double,
    nothing,
    wrap_triton,
)

NONE, SUM, MEAN = range(len(REDUCTIONS))
WEIGHTS = 6  # weight, weight_orig, bce, dice, positive, smooth


class _Call:
    """The tensors in one order, an absent one's place taken by another, and the kernels' flags."""

    def __init__(
        self,
        logits: Tensor,
        logits_orig: Tensor | None,
        mask: Tensor,
        mask_orig: Tensor | None,
        bce_target: Tensor | None,
        bce_target_orig: Tensor | None,
        pos_weight: Tensor | None,
        weights: Sequence[float],
        ignore_index: int | None,
    ) -> None:
        check(logits.dim() >= 2, "logits must have shape (B, ...)")
        check(len(weights) == WEIGHTS, f"weights must be {WEIGHTS} numbers")
        check_floating(logits, "logits")
        if logits_orig is None:
            mask_orig = bce_target_orig = None
        else:
            check_floating(logits_orig, "logits_orig")
        if pos_weight is not None:
            right = pos_weight.dtype == torch.float64 and pos_weight.numel() == 1
            check(right, "pos_weight must hold one float64 for each sample")
        self.logits = in_order(logits, logits)
        named = {
            "logits_orig": logits_orig,
            "mask": mask,
            "mask_orig": mask_orig,
            "bce_target": bce_target,
            "bce_target_orig": bce_target_orig,
        }
        held = {
            name: self.logits if tensor is None else self._hold(tensor, name)
            for name, tensor in named.items()
        }
        self.logits_orig = held["logits_orig"]
        self.tensors = (
            self.logits, *held.values(), self.logits if pos_weight is None else pos_weight,
        )  # fmt: skip
        self.branches = 1 if logits_orig is None else 2
        self.samples, self.elements = logits.shape[0], elements_of_sample(logits)
        self.double = is_double(logits, logits_orig)
        self.block = 1024 if self.double else 2048
        self.pieces = cdiv(self.elements, self.block)
        weight, weight_orig, bce, dice, positive, smooth = weights
        self.numbers = (*words(positive), *words(ignore_index or 0))
        self.weights = tuple(
            word for value in (weight, weight_orig, bce, dice, smooth) for word in words(value)
        )
        self.flags: dict[str, Any] = {
            "DOUBLE": self.double,
            "OWN_MASK": mask_orig is not None,
            "TARGET": bce_target is not None,
            "TARGET_ORIG": bce_target_orig is not None,
            "WEIGHT_TENSOR": pos_weight is not None,
            "IGNORE": ignore_index is not None,
            "BLOCK": self.block,
            "num_warps": 4,
        }

    def _hold(self, tensor: Tensor, name: str) -> Tensor:
        check_shape(tensor, self.logits, name)
        return in_order(tensor, self.logits)


@define("dual_mask")
def dual_mask(
    logits: Tensor,
    logits_orig: Tensor | None,
    mask: Tensor,
    mask_orig: Tensor | None,
    bce_target: Tensor | None,
    bce_target_orig: Tensor | None,
    pos_weight: Tensor | None,
    weights: Sequence[float],
    ignore_index: int | None,
    reduction: int,
) -> tuple[Tensor, Tensor, Tensor]:
    check(NONE <= reduction <= MEAN, "no such reduction")
    call = _Call(
        logits, logits_orig, mask, mask_orig, bce_target, bce_target_orig, pos_weight, weights,
        ignore_index,
    )  # fmt: skip
    samples, pieces, rows = call.samples, call.pieces, 2 * call.branches
    accumulation = torch.float64 if call.double else torch.float32
    parts = logits.new_empty((call.branches, SUMS, samples, pieces), dtype=accumulation)
    sums = logits.new_empty((call.branches, samples, SUMS), dtype=torch.float64)
    wrap_triton(parts_kernel)[(samples * pieces,)](
        *call.tensors, parts, samples, call.elements, pieces, *call.numbers,
        TWO=call.branches == 2, **call.flags,
    )  # fmt: skip
    # Of each sample: the loss, and BCE and Dice of each branch.
    each = accumulation if reduction == NONE else torch.float64
    loss = logits.new_empty(samples, dtype=each)
    components = logits.new_empty((rows, samples), dtype=each)
    wrap_triton(combine_kernel)[(samples,)](
        parts, sums, loss, components, samples, pieces, *call.weights, BRANCHES=call.branches,
        BLOCK=256, num_warps=4,
    )  # fmt: skip
    if reduction == NONE:
        return loss, components, sums
    divisor = samples if reduction == MEAN else 1
    total, total_components = (
        logits.new_empty(shape, dtype=accumulation) for shape in ((), (rows,))
    )
    for values, out, count in ((loss, total, 1), (components, total_components, rows)):
        wrap_triton(sum_kernel)[(count,)](
            values, out, samples, 1, divisor, SPAN=1 << 30, BLOCK=256, num_warps=4
        )
    return total, total_components, sums


@define("dual_mask_backward")
def dual_mask_backward(
    grad_output: Tensor,
    sums: Tensor,
    logits: Tensor,
    logits_orig: Tensor | None,
    mask: Tensor,
    mask_orig: Tensor | None,
    bce_target: Tensor | None,
    bce_target_orig: Tensor | None,
    pos_weight: Tensor | None,
    weights: Sequence[float],
    ignore_index: int | None,
    reduction: int,
    grad_logits: bool,
    grad_logits_orig: bool,
) -> tuple[Tensor, Tensor]:
    call = _Call(
        logits, logits_orig, mask, mask_orig, bce_target, bce_target_orig, pos_weight, weights,
        ignore_index,
    )  # fmt: skip
    factors, saved = grad_output.contiguous(), sums.contiguous()
    samples = call.samples
    right = is_double(saved) and saved.numel() == call.branches * samples * SUMS
    check(right, "sums must be those of the forward")
    check(factors.dtype in (torch.float32, torch.float64), "grad_output must be float32 or float64")
    check(
        factors.numel() == 1 or factors.numel() == samples,
        "grad_output must be one number or one for each sample",
    )
    grad_orig = grad_logits_orig and call.branches == 2
    to, to_orig = nothing(logits), nothing(logits)
    if grad_logits:
        to = empty_in_order(call.logits, call.logits)
    if grad_orig:
        to_orig = empty_in_order(call.logits_orig, call.logits)
    if grad_logits or grad_orig:
        # Elements that are loaded one by one take more registers, of which a thread of four warps
        # has too few on sm_80.
        warps = {} if call.elements % 4 == 0 else {"num_warps": 8}
        wrap_triton(gradient_kernel)[(samples * call.pieces,)](
            factors, saved, *call.tensors, to if grad_logits else call.logits,
            to_orig if grad_orig else call.logits, samples, call.elements, call.pieces,
            samples if reduction == MEAN else 1, *call.numbers, *call.weights,
            EACH=factors.numel() != 1, GRAD=grad_logits, GRAD_ORIG=grad_orig,
            **call.flags | warps,
        )  # fmt: skip
    return to, to_orig
