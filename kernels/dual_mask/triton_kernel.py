"""BCE + Dice of one or two branches in Triton: sums of pieces, their combination, the gradient.

A piece is BLOCK neighbours of one sample; the mask that both branches share is read once. The
formulas and the traffic: README.md.
"""

from __future__ import annotations

import triton
import triton.language as tl
from ansm_fast.kernels.common.triton_numbers import (
    exp_nonpositive,
    log_of_one_plus,
    narrow,
    real,
    sum_of_parts,
    widen,
)

SUMS = 5  # of BCE, probability * mask, probability, mask, and the number of valid pixels
NUMBERS = ["positive_high", "positive_low", "ignore_high", "ignore_low"]
WEIGHTS = [
    f"{name}_{half}"
    for name in ("weight", "weight_orig", "bce", "dice", "smooth")
    for half in ("high", "low")
]


@triton.jit
def decay_of(z, A: tl.constexpr):
    """exp(-|z|), but never below the normal numbers, where it is nothing beside 1."""
    lowest: tl.constexpr = -708.0 if A == tl.float64 else -87.0
    x = tl.where(z < 0.0, z, -z)
    return exp_nonpositive(tl.where(x < lowest, lowest, x), A)


@triton.jit
def branch_sums(z, y, t, keep, weight, A: tl.constexpr):
    e = decay_of(z, A)
    larger = 1.0 / (1.0 + e)
    p = tl.where(z >= 0.0, larger, e * larger)
    # -log p is log(1 + e) - min(z, 0), and -log(1 - p) is log(1 + e) + max(z, 0).
    slope = tl.where(z >= 0.0, 1.0 - t, -weight * t)
    loss = slope * z + (1.0 + (weight - 1.0) * t) * log_of_one_plus(e, A)
    return (
        tl.sum(tl.where(keep, loss, 0.0), 0),
        tl.sum(tl.where(keep, p * y, 0.0), 0),
        tl.sum(tl.where(keep, p, 0.0), 0),
        tl.sum(tl.where(keep, y, 0.0), 0),
        tl.sum(keep.to(A), 0),
    )


@triton.jit
def store_sums(parts, step, bce, overlap, probability, area, count):
    tl.store(parts, bce)
    tl.store(parts + step, overlap)
    tl.store(parts + 2 * step, probability)
    tl.store(parts + 3 * step, area)
    tl.store(parts + 4 * step, count)


@triton.jit(do_not_specialize=NUMBERS)
def parts_kernel(
    logits,  # (samples, elements), as all that follow
    logits_orig,  # read with TWO
    mask,
    mask_orig,  # read with OWN_MASK
    target,  # read with TARGET
    target_orig,  # read with TARGET_ORIG
    pos_weight,  # one float64, read with WEIGHT_TENSOR
    parts,  # (branches, SUMS, samples, pieces)
    samples,
    elements,
    pieces,
    positive_high,
    positive_low,
    ignore_high,
    ignore_low,
    DOUBLE: tl.constexpr,
    TWO: tl.constexpr,
    OWN_MASK: tl.constexpr,
    TARGET: tl.constexpr,
    TARGET_ORIG: tl.constexpr,
    WEIGHT_TENSOR: tl.constexpr,
    IGNORE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The five sums of one piece, for each branch."""
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    program = tl.program_id(0).to(tl.int64)
    place = (program % pieces) * BLOCK + tl.arange(0, BLOCK)
    there = place < elements
    at = (program // pieces) * elements + place
    if WEIGHT_TENSOR:
        weight = tl.load(pos_weight).to(A)
    else:
        weight = real(positive_high, positive_low, A)
    z = widen(tl.load(logits + at, mask=there, other=0.0), A)
    y = widen(tl.load(mask + at, mask=there, other=0), A)
    t = y
    if TARGET:
        t = widen(tl.load(target + at, mask=there, other=0), A)
    keep = there
    if IGNORE:
        keep = there & (y != real(ignore_high, ignore_low, A))
    step = tl.full((), samples, tl.int64) * pieces
    to = parts + program
    bce, overlap, probability, area, count = branch_sums(z, y, t, keep, weight, A)
    store_sums(to, step, bce, overlap, probability, area, count)
    if TWO:
        z = widen(tl.load(logits_orig + at, mask=there, other=0.0), A)
        if OWN_MASK:
            y = widen(tl.load(mask_orig + at, mask=there, other=0), A)
            if IGNORE:
                keep = there & (y != real(ignore_high, ignore_low, A))
        t = y
        if TARGET_ORIG:
            t = widen(tl.load(target_orig + at, mask=there, other=0), A)
        bce, overlap, probability, area, count = branch_sums(z, y, t, keep, weight, A)
        store_sums(to + 5 * step, step, bce, overlap, probability, area, count)


@triton.jit(do_not_specialize=WEIGHTS)
def combine_kernel(
    parts,  # (branches, SUMS, samples, pieces)
    sums,  # float64 (branches, samples, SUMS)
    loss,  # (samples,)
    components,  # (2 * branches, samples): BCE and Dice of each branch
    samples,
    pieces,
    weight_high,
    weight_low,
    weight_orig_high,
    weight_orig_low,
    bce_high,
    bce_low,
    dice_high,
    dice_low,
    smooth_high,
    smooth_low,
    BRANCHES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One sample's sums, its loss and its components."""
    sample = tl.program_id(0).to(tl.int64)
    step = tl.full((), samples, tl.int64) * pieces
    smooth = real(smooth_high, smooth_low, tl.float64)
    total = tl.full((), 0.0, tl.float64)
    for branch in tl.static_range(BRANCHES):
        start = 5 * branch * step + sample * pieces
        bce = sum_of_parts(parts, start, pieces, BLOCK)
        overlap = sum_of_parts(parts, start + step, pieces, BLOCK)
        probability = sum_of_parts(parts, start + 2 * step, pieces, BLOCK)
        area = sum_of_parts(parts, start + 3 * step, pieces, BLOCK)
        count = sum_of_parts(parts, start + 4 * step, pieces, BLOCK)
        branch_samples = tl.full((), samples, tl.int64) * branch
        store_sums(sums + (branch_samples + sample) * 5, 1, bce, overlap, probability, area, count)
        bce = bce / count
        dice = 1.0 - (2.0 * overlap + smooth) / (probability + area + smooth)
        tl.store(components + 2 * branch_samples + sample, bce)
        tl.store(components + 2 * branch_samples + samples + sample, dice)
        value = real(bce_high, bce_low, tl.float64) * bce
        value += real(dice_high, dice_low, tl.float64) * dice
        if branch == 0:
            total += real(weight_high, weight_low, tl.float64) * value
        else:
            total += real(weight_orig_high, weight_orig_low, tl.float64) * value
    tl.store(loss + sample, total)


@triton.jit
def branch_gradient(z, y, t, keep, weight, bce, base, slope, A: tl.constexpr):
    e = decay_of(z, A)
    larger = 1.0 / (1.0 + e)
    smaller = e * larger
    p = tl.where(z >= 0.0, larger, smaller)
    complement = tl.where(z >= 0.0, smaller, larger)
    # p [bce (1 - t) + (1 - p) (base - slope y)] - (1 - p) bce pos_weight t
    g = bce - bce * t + complement * (base - slope * y)
    return tl.where(keep, p * g - weight * bce * t * complement, 0.0)


@triton.jit
def coefficients(sums, factor, bce_weight, dice_weight, smooth, A: tl.constexpr):
    """What one sample's gradient multiplies by: bce, dice_base and dice_slope."""
    overlap = tl.load(sums + 1)
    total = tl.load(sums + 2) + tl.load(sums + 3)
    count = tl.load(sums + 4).to(A)
    denominator = (total + smooth).to(A)
    dice = factor * dice_weight / denominator
    base = dice * (2.0 * overlap + smooth).to(A) / denominator
    return factor * bce_weight / count, base, 2.0 * dice


@triton.jit(do_not_specialize=NUMBERS + WEIGHTS)
def gradient_kernel(
    grad_output,  # one number, or one for each sample with EACH
    sums,  # float64 (branches, samples, SUMS)
    logits,  # (samples, elements), as all that follow
    logits_orig,
    mask,
    mask_orig,
    target,
    target_orig,
    pos_weight,
    grad_logits,  # written with GRAD
    grad_logits_orig,  # written with GRAD_ORIG
    samples,
    elements,
    pieces,
    divisor,  # of the sum over samples
    positive_high,
    positive_low,
    ignore_high,
    ignore_low,
    weight_high,
    weight_low,
    weight_orig_high,
    weight_orig_low,
    bce_high,
    bce_low,
    dice_high,
    dice_low,
    smooth_high,
    smooth_low,
    DOUBLE: tl.constexpr,
    OWN_MASK: tl.constexpr,
    TARGET: tl.constexpr,
    TARGET_ORIG: tl.constexpr,
    WEIGHT_TENSOR: tl.constexpr,
    IGNORE: tl.constexpr,
    EACH: tl.constexpr,
    GRAD: tl.constexpr,
    GRAD_ORIG: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The gradients of one piece."""
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    program = tl.program_id(0).to(tl.int64)
    sample = program // pieces
    place = (program % pieces) * BLOCK + tl.arange(0, BLOCK)
    there = place < elements
    at = sample * elements + place
    if WEIGHT_TENSOR:
        weight = tl.load(pos_weight).to(A)
    else:
        weight = real(positive_high, positive_low, A)
    if EACH:
        factor = tl.load(grad_output + sample).to(A) / divisor
    else:
        factor = tl.load(grad_output).to(A) / divisor
    bce_weight = real(bce_high, bce_low, A)
    dice_weight = real(dice_high, dice_low, A)
    smooth = real(smooth_high, smooth_low, tl.float64)
    if GRAD or not OWN_MASK:
        y = widen(tl.load(mask + at, mask=there, other=0), A)
        keep = there
        if IGNORE:
            keep = there & (y != real(ignore_high, ignore_low, A))
    if GRAD:
        z = widen(tl.load(logits + at, mask=there, other=0.0), A)
        t = y
        if TARGET:
            t = widen(tl.load(target + at, mask=there, other=0), A)
        own = factor * real(weight_high, weight_low, A)
        bce, base, slope = coefficients(sums + sample * 5, own, bce_weight, dice_weight, smooth, A)
        g = branch_gradient(z, y, t, keep, weight, bce, base, slope, A)
        tl.store(grad_logits + at, narrow(g, grad_logits.dtype.element_ty), mask=there)
    if GRAD_ORIG:
        z = widen(tl.load(logits_orig + at, mask=there, other=0.0), A)
        if OWN_MASK:
            y = widen(tl.load(mask_orig + at, mask=there, other=0), A)
            keep = there
            if IGNORE:
                keep = there & (y != real(ignore_high, ignore_low, A))
        t = y
        if TARGET_ORIG:
            t = widen(tl.load(target_orig + at, mask=there, other=0), A)
        own = factor * real(weight_orig_high, weight_orig_low, A)
        from_sums = sums + (sample + samples) * 5
        bce, base, slope = coefficients(from_sums, own, bce_weight, dice_weight, smooth, A)
        g = branch_gradient(z, y, t, keep, weight, bce, base, slope, A)
        tl.store(grad_logits_orig + at, narrow(g, grad_logits_orig.dtype.element_ty), mask=there)
