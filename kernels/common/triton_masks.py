"""What the Triton kernels of losses against a mask share: masks, exp(-|z|) and pos_weight."""

from __future__ import annotations

import triton
import triton.language as tl
from ansm_fast.kernels.common.triton_numbers import exp_nonpositive, real, widen

IGNORED = tl.constexpr(2.0)  # kIgnored and kSlack of mask_values.h
SLACK = tl.constexpr(1 / 128)


@triton.jit
def decay_of(z, A: tl.constexpr):
    """exp(-|z|), but never below the normal numbers, where it is nothing beside 1."""
    lowest: tl.constexpr = -708.0 if A == tl.float64 else -87.0
    x = tl.where(z < 0.0, z, -z)
    return exp_nonpositive(tl.where(x < lowest, lowest, x), A)


@triton.jit
def target_of(raw, A: tl.constexpr):
    """A mask or target in [0, 1]; NaN for what is no probability."""
    value = widen(raw, A)
    if raw.dtype == tl.uint8 or raw.dtype == tl.int1 or raw.dtype == tl.int8:
        value = tl.where(value != 0.0, 1.0, 0.0).to(A)
    else:
        inside = tl.where(value < 0.0, 0.0, tl.where(value > 1.0, 1.0, value))
        sound = (value >= -SLACK) & (value <= 1.0 + SLACK)
        value = tl.where(sound, inside, float("nan")).to(A)
    return value


@triton.jit
def mask_of(raw, ignore_high, ignore_low, IGNORE: tl.constexpr, A: tl.constexpr):
    """The same with IGNORED for the ignored value."""
    value = target_of(raw, A)
    if IGNORE:
        value = tl.where(widen(raw, A) == real(ignore_high, ignore_low, A), IGNORED, value).to(A)
    return value


@triton.jit
def pos_weight_of(tensor, high, low, IS_TENSOR: tl.constexpr, A: tl.constexpr):
    """NaN for a negative one, which would make of the loss what training takes for a gain."""
    if IS_TENSOR:
        weight = tl.load(tensor).to(A)
    else:
        weight = real(high, low, A)
    return tl.where(weight >= 0.0, weight, float("nan")).to(A)
