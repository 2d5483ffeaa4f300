"""focal: the shapes of its launches. The arithmetic: kernels/focal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ansm_fast.kernels.common.triton_numbers import words
from ansm_fast.kernels.focal.triton_kernel import (
    ONE,
    POWER,
    SQUARE,
    SUMS,
    combine_kernel,
    forward_kernel,
    gradient_kernel,
)
from ansm_fast.ops.dtypes import accumulation_dtype
from ansm_fast.ops.layout import empty_in_order
from ansm_fast.ops.mask_checks import REDUCTIONS
from ansm_fast.ops.triton_launch import (
    cdiv,
    check,
    check_floating,
    check_shape,
    define,
    in_order,
    is_double,
    wrap_triton,
)

NONE, SUM, MEAN = range(len(REDUCTIONS))
PROGRAMS = 8192  # at most, so that one program can add up their sums


class _Call:
    """The tensors in one order, and what the kernels of both passes take."""

    def __init__(
        self,
        logits: Tensor,
        mask: Tensor,
        pos_weight: Tensor | None,
        options: Sequence[float],
        ignore_index: int | None,
        reduction: int,
    ) -> None:
        check(NONE <= reduction <= MEAN, "no such reduction")
        check(len(options) == 3, "options must be 3 numbers")
        check_floating(logits, "logits")
        check_shape(mask, logits, "mask")
        if pos_weight is not None:
            right = pos_weight.dtype == torch.float64 and pos_weight.numel() == 1
            check(right, "pos_weight must hold one float64")
        self.logits = in_order(logits, logits)
        self.mask = in_order(mask, logits)
        self.pos_weight = self.logits if pos_weight is None else pos_weight
        alpha, gamma, positive = options
        base, slope = (1.0, 0.0) if alpha < 0 else (1 - alpha, 2 * alpha - 1)
        numbers = (base, slope, gamma, positive, ignore_index or 0)
        self.numbers = tuple(word for number in numbers for word in words(number))
        double = is_double(logits)
        block = 1024 if double else 2048
        self.pixels = logits.numel()
        blocks = cdiv(self.pixels, block)
        self.span = cdiv(max(blocks, 1), PROGRAMS)
        self.programs = cdiv(blocks, self.span)
        self.flags: dict[str, Any] = {
            "DOUBLE": double,
            "MODULATION": (ONE if gamma == 0 else SQUARE if gamma == 2 else POWER).value,
            "WEIGHT_TENSOR": pos_weight is not None,
            "IGNORE": ignore_index is not None,
            "EACH": reduction == NONE,
            "BLOCK": block,
            "num_warps": 4,
        }

    def check_dtype(self, dtype: torch.dtype, name: str) -> None:
        allowed = dtype in (self.logits.dtype, torch.float32)
        check(allowed, f"{name} must have the dtype of the logits or float32")


@define("focal")
def focal(
    logits: Tensor,
    mask: Tensor,
    pos_weight: Tensor | None,
    options: Sequence[float],
    ignore_index: int | None,
    reduction: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    call = _Call(logits, mask, pos_weight, options, ignore_index, reduction)
    if reduction == NONE:
        call.check_dtype(dtype, "the loss")
        loss = empty_in_order(call.logits, call.logits, dtype)
        parts = count = logits.new_empty(0, dtype=torch.float64)
    else:
        loss = logits.new_empty((), dtype=accumulation_dtype(logits.dtype))
        parts = logits.new_empty((SUMS, call.programs), dtype=torch.float64)
        count = logits.new_empty(1, dtype=torch.float64)
    wrap_triton(forward_kernel)[(call.programs,)](
        call.logits, call.mask, call.pos_weight, loss, parts, call.pixels, call.span,
        call.programs, *call.numbers, **call.flags,
    )  # fmt: skip
    if reduction != NONE:
        wrap_triton(combine_kernel)[(1,)](
            parts, loss, count, call.programs, MEAN=reduction == MEAN, BLOCK=1024, num_warps=4
        )
    return loss, count


@define("focal_backward")
def focal_backward(
    grad_output: Tensor,
    count: Tensor,
    logits: Tensor,
    mask: Tensor,
    pos_weight: Tensor | None,
    options: Sequence[float],
    ignore_index: int | None,
    reduction: int,
) -> Tensor:
    call = _Call(logits, mask, pos_weight, options, ignore_index, reduction)
    right = is_double(count) and count.numel() == (0 if reduction == NONE else 1)
    check(right, "count must be that of the forward")
    if reduction == NONE:
        check_shape(grad_output, logits, "grad_output")
        call.check_dtype(grad_output.dtype, "grad_output")
        factors = in_order(grad_output, call.logits)
    else:
        right = grad_output.dtype in (torch.float32, torch.float64) and grad_output.numel() == 1
        check(right, "grad_output must be one float32 or float64")
        factors = grad_output.contiguous()
    gradient = empty_in_order(call.logits, call.logits)
    wrap_triton(gradient_kernel)[(call.programs,)](
        factors, count, call.logits, call.mask, call.pos_weight, gradient, call.pixels, call.span,
        *call.numbers, MEAN=reduction == MEAN, **call.flags,
    )  # fmt: skip
    return gradient
