"""The focal loss in Triton: losses of pieces, their sum, the gradient.

A program takes ``span`` blocks of neighbouring pixels, of all samples together. The formulas and
the traffic: README.md.
"""

from __future__ import annotations

import triton
import triton.language as tl
from ansm_fast.kernels.common.triton_masks import IGNORED, decay_of, mask_of, pos_weight_of
from ansm_fast.kernels.common.triton_numbers import (
    log_of_one_plus,
    narrow,
    real,
    sum_of_parts,
    widen,
)

SUMS = 2  # of losses, and of pixels that are not ignored
# How (1 - p_t)^gamma is made: not at all (gamma = 0), as a square (2), by exp and log.
ONE, SQUARE, POWER = (tl.constexpr(i) for i in range(3))
NUMBERS = [
    f"{name}_{half}"
    for name in ("alpha_base", "alpha_slope", "gamma", "positive", "ignore")
    for half in ("high", "low")
]


@triton.jit
def load_pixels(
    logits, mask, at, there, ignore_high, ignore_low, IGNORE: tl.constexpr, A: tl.constexpr
):
    """Logits, and the mask's numbers in [0, 1], IGNORED or NaN."""
    z = widen(tl.load(logits + at, mask=there, other=0.0), A)
    raw = tl.load(mask + at, mask=there, other=0)
    return z, mask_of(raw, ignore_high, ignore_low, IGNORE, A)


@triton.jit
def pixel_of(z, y, weight, A: tl.constexpr):
    """p, 1 - p, the cross-entropy and 1 - p_t, none of them a difference of close numbers."""
    e = tl.where(tl.abs(z) == float("inf"), 0.0, decay_of(z, A))
    larger = 1.0 / (1.0 + e)
    smaller = e * larger
    p = tl.where(z >= 0.0, larger, smaller)
    complement = tl.where(z >= 0.0, smaller, larger)
    # -log p is log(1 + e) - min(z, 0), and -log(1 - p) is log(1 + e) + max(z, 0).
    slope = tl.where(z >= 0.0, 1.0 - y, -weight * y)
    entropy = slope * z + (weight * y + (1.0 - y)) * log_of_one_plus(e, A)
    return p, complement, entropy, p * (1.0 - y) + complement * y


@triton.jit
def power_below(miss, gamma, MODULATION: tl.constexpr, A: tl.constexpr):
    """miss^(gamma - 1), finite also where miss is 0."""
    if MODULATION == SQUARE:
        power = miss
    else:
        least: tl.constexpr = 2.2250738585072014e-308 if A == tl.float64 else 1.1754943508222875e-38
        power = tl.exp((gamma - 1.0) * tl.log(tl.where(miss < least, least, miss)))
    return power


@triton.jit(do_not_specialize=NUMBERS)
def forward_kernel(
    logits,  # (pixels,), as mask
    mask,
    pos_weight,  # one float64, read with WEIGHT_TENSOR
    losses,  # (pixels,), written with EACH
    parts,  # (SUMS, programs), written without EACH
    pixels,
    span,  # blocks of a program
    programs,
    alpha_base_high,
    alpha_base_low,
    alpha_slope_high,
    alpha_slope_low,
    gamma_high,
    gamma_low,
    positive_high,
    positive_low,
    ignore_high,
    ignore_low,
    DOUBLE: tl.constexpr,
    MODULATION: tl.constexpr,
    WEIGHT_TENSOR: tl.constexpr,
    IGNORE: tl.constexpr,
    EACH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The losses of a program's pixels, or their sum and number."""
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    program = tl.program_id(0).to(tl.int64)
    weight = pos_weight_of(pos_weight, positive_high, positive_low, WEIGHT_TENSOR, A)
    base = real(alpha_base_high, alpha_base_low, A)
    slope = real(alpha_slope_high, alpha_slope_low, A)
    gamma = real(gamma_high, gamma_low, A)
    total = tl.full((), 0.0, tl.float64)
    count = tl.full((), 0.0, tl.float64)
    for block in range(0, span):
        at = (program * span + block) * BLOCK + tl.arange(0, BLOCK)
        there = at < pixels
        z, y = load_pixels(logits, mask, at, there, ignore_high, ignore_low, IGNORE, A)
        _, _, entropy, miss = pixel_of(z, y, weight, A)
        loss = (base + slope * y) * entropy
        if MODULATION != ONE:
            loss *= miss * power_below(miss, gamma, MODULATION, A)
        keep = there & (y != IGNORED)
        loss = tl.where(keep, loss, 0.0)
        if EACH:
            tl.store(losses + at, narrow(loss, losses.dtype.element_ty), mask=there)
        else:
            total += tl.sum(loss, 0).to(tl.float64)
            count += tl.sum(keep.to(A), 0).to(tl.float64)
    if not EACH:
        tl.store(parts + program, total)
        tl.store(parts + programs + program, count)


@triton.jit
def combine_kernel(
    parts,  # float64 (SUMS, programs)
    loss,  # one number
    count,  # one float64
    programs,
    MEAN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The sum or the mean of all losses; 0 where no pixel counts."""
    total = sum_of_parts(parts, 0, programs, BLOCK)
    number = sum_of_parts(parts, programs, programs, BLOCK)
    if MEAN:
        total = total / tl.where(number == 0.0, 1.0, number)
    tl.store(loss, total)
    tl.store(count, number)


@triton.jit(do_not_specialize=NUMBERS)
def gradient_kernel(
    grad_output,  # one number, or (pixels,) with EACH
    count,  # one float64, read with MEAN
    logits,
    mask,
    pos_weight,
    gradient,
    pixels,
    span,
    alpha_base_high,
    alpha_base_low,
    alpha_slope_high,
    alpha_slope_low,
    gamma_high,
    gamma_low,
    positive_high,
    positive_low,
    ignore_high,
    ignore_low,
    DOUBLE: tl.constexpr,
    MODULATION: tl.constexpr,
    WEIGHT_TENSOR: tl.constexpr,
    IGNORE: tl.constexpr,
    EACH: tl.constexpr,
    MEAN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The gradient of a program's pixels."""
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    program = tl.program_id(0).to(tl.int64)
    weight = pos_weight_of(pos_weight, positive_high, positive_low, WEIGHT_TENSOR, A)
    base = real(alpha_base_high, alpha_base_low, A)
    slope = real(alpha_slope_high, alpha_slope_low, A)
    gamma = real(gamma_high, gamma_low, A)
    if not EACH:
        shared = tl.load(grad_output).to(tl.float64)
        if MEAN:
            number = tl.load(count)
            shared = tl.where(number == 0.0, 0.0, shared / tl.where(number == 0.0, 1.0, number))
    for block in range(0, span):
        at = (program * span + block) * BLOCK + tl.arange(0, BLOCK)
        there = at < pixels
        z, y = load_pixels(logits, mask, at, there, ignore_high, ignore_low, IGNORE, A)
        if EACH:
            factor = widen(tl.load(grad_output + at, mask=there, other=0.0), A)
        else:
            factor = shared.to(A)
        p, complement, entropy, miss = pixel_of(z, y, weight, A)
        g = (1.0 - y) * p - weight * y * complement  # of the cross-entropy
        if MODULATION != ONE:
            # gamma miss^(gamma - 1) (1 - 2 y) p (1 - p) ce + miss^gamma g
            g = gamma * (p * complement) * (1.0 - 2.0 * y) * entropy + miss * g
            g *= power_below(miss, gamma, MODULATION, A)
        g = (base + slope * y) * factor * g
        # A factor of 0 gives 0, also where the loss is NaN.
        g = tl.where(y == IGNORED, 0.0, tl.where(factor == 0.0, 0.0, g))
        tl.store(gradient + at, narrow(g, gradient.dtype.element_ty), mask=there)
