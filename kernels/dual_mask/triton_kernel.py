"""BCE + Dice of one or two branches in Triton: sums of pieces, their combination, the gradient.

A piece is BLOCK neighbours of one sample; the mask that both branches share is read once. The
formulas and the traffic: README.md.
"""

from __future__ import annotations

import triton
import triton.language as tl
from ansm_fast.kernels.common.triton_masks import (
    IGNORED,
    decay_of,
    mask_of,
    pos_weight_of,
    target_of,
)
from ansm_fast.kernels.common.triton_numbers import (
    log_of_one_plus,
    narrow,
    real,
    sum_of_parts,
    widen,
)

NOTHING = tl.constexpr(1e-28)  # kNothing of args.h

SUMS = 5  # of BCE, probability * mask, probability, mask, and the number of valid pixels
NUMBERS = ["positive_high", "positive_low", "ignore_high", "ignore_low"]
WEIGHTS = [
    f"{name}_{half}"
    for name in ("weight", "weight_orig", "bce", "dice", "smooth")
    for half in ("high", "low")
]


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
    weight = pos_weight_of(pos_weight, positive_high, positive_low, WEIGHT_TENSOR, A)
    z = widen(tl.load(logits + at, mask=there, other=0.0), A)
    y = mask_of(tl.load(mask + at, mask=there, other=0), ignore_high, ignore_low, IGNORE, A)
    t = y
    if TARGET:
        t = target_of(tl.load(target + at, mask=there, other=0), A)
    keep = there & (y != IGNORED)
    step = tl.full((), samples, tl.int64) * pieces
    to = parts + program
    bce, overlap, probability, area, count = branch_sums(z, y, t, keep, weight, A)
    store_sums(to, step, bce, overlap, probability, area, count)
    if TWO:
        z = widen(tl.load(logits_orig + at, mask=there, other=0.0), A)
        if OWN_MASK:
            raw = tl.load(mask_orig + at, mask=there, other=0)
            y = mask_of(raw, ignore_high, ignore_low, IGNORE, A)
            keep = there & (y != IGNORED)
        t = y
        if TARGET_ORIG:
            t = target_of(tl.load(target_orig + at, mask=there, other=0), A)
        bce, overlap, probability, area, count = branch_sums(z, y, t, keep, weight, A)
        store_sums(to + 5 * step, step, bce, overlap, probability, area, count)


@triton.jit
def weighted(weight, value):
    """The product, and 0 where the weight is 0: 0 * NaN would be NaN."""
    return tl.where(weight == 0.0, 0.0, weight * value)


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
        # As in terms.h: no pixel, no loss; no mask, no loss either, but NaN; never below 0.
        bce = tl.where(count == 0.0, 0.0, bce / tl.where(count == 0.0, 1.0, count))
        bce = tl.where(area == area, bce, area)
        total_area = probability + area + smooth
        empty = (count == 0.0) | (total_area <= NOTHING)
        dice = 1.0 - (2.0 * overlap + smooth) / tl.where(empty, 1.0, total_area)
        dice = tl.where(empty | (dice < 0.0), 0.0, dice)
        tl.store(components + 2 * branch_samples + sample, bce)
        tl.store(components + 2 * branch_samples + samples + sample, dice)
        value = weighted(real(bce_high, bce_low, tl.float64), bce)
        value += weighted(real(dice_high, dice_low, tl.float64), dice)
        if branch == 0:
            total += weighted(real(weight_high, weight_low, tl.float64), value)
        else:
            total += weighted(real(weight_orig_high, weight_orig_low, tl.float64), value)
    tl.store(loss + sample, total)


@triton.jit
def branch_gradient(z, y, t, keep, weight, bce, base, slope, A: tl.constexpr):
    e = decay_of(z, A)
    larger = 1.0 / (1.0 + e)
    smaller = e * larger
    p = tl.where(z >= 0.0, larger, smaller)
    complement = tl.where(z >= 0.0, smaller, larger)
    # Without a BCE its weight and its target say nothing, even where they are NaN.
    positive = weighted(bce, weight)
    t = tl.where(bce == 0.0, 0.0, t)
    # p [bce (1 - t) + (1 - p) (base - slope y)] - (1 - p) bce pos_weight t
    g = bce - bce * t + complement * (base - slope * y)
    g = p * g - positive * t * complement
    # Without any coefficient the gradient is 0, also where the logits are NaN.
    size = tl.abs(bce) + tl.abs(base) + tl.abs(slope)
    return tl.where(keep, tl.where(size == 0.0, 0.0, g), 0.0)


@triton.jit
def coefficients(sums, factor, bce_weight, dice_weight, smooth, A: tl.constexpr):
    """What one sample's gradient multiplies by: bce, dice_base and dice_slope."""
    overlap = tl.load(sums + 1)
    area = tl.load(sums + 3)
    total = tl.load(sums + 2) + area + smooth
    count = tl.load(sums + 4)
    # As in terms.h: what is weighted by 0 is 0, and where the mask is none, all is NaN.
    nothing = (count == 0.0) | (factor == 0.0)
    empty = nothing | (total <= NOTHING)
    denominator = tl.where(empty, 1.0, total).to(A)
    dice = tl.where(empty, 0.0, weighted(dice_weight, factor) / denominator)
    base = weighted(dice, (2.0 * overlap + smooth).to(A)) / denominator
    bce = weighted(bce_weight, factor) / tl.where(nothing, 1.0, count).to(A)
    bce = tl.where(nothing, 0.0, bce)
    spoilt = (area != area) & (factor != 0.0)
    none = float("nan")
    return (
        tl.where(spoilt, none, bce).to(A),
        tl.where(spoilt, none, base).to(A),
        tl.where(spoilt, none, 2.0 * dice).to(A),
    )


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
    weight = pos_weight_of(pos_weight, positive_high, positive_low, WEIGHT_TENSOR, A)
    if EACH:
        factor = tl.load(grad_output + sample).to(A) / divisor
    else:
        factor = tl.load(grad_output).to(A) / divisor
    bce_weight = real(bce_high, bce_low, A)
    dice_weight = real(dice_high, dice_low, A)
    smooth = real(smooth_high, smooth_low, tl.float64)
    if GRAD or not OWN_MASK:
        y = mask_of(tl.load(mask + at, mask=there, other=0), ignore_high, ignore_low, IGNORE, A)
        keep = there & (y != IGNORED)
    if GRAD:
        z = widen(tl.load(logits + at, mask=there, other=0.0), A)
        t = y
        if TARGET:
            t = target_of(tl.load(target + at, mask=there, other=0), A)
        own = weighted(real(weight_high, weight_low, A), factor)
        bce, base, slope = coefficients(sums + sample * 5, own, bce_weight, dice_weight, smooth, A)
        g = branch_gradient(z, y, t, keep, weight, bce, base, slope, A)
        tl.store(grad_logits + at, narrow(g, grad_logits.dtype.element_ty), mask=there)
    if GRAD_ORIG:
        z = widen(tl.load(logits_orig + at, mask=there, other=0.0), A)
        if OWN_MASK:
            raw = tl.load(mask_orig + at, mask=there, other=0)
            y = mask_of(raw, ignore_high, ignore_low, IGNORE, A)
            keep = there & (y != IGNORED)
        t = y
        if TARGET_ORIG:
            t = target_of(tl.load(target_orig + at, mask=there, other=0), A)
        own = weighted(real(weight_orig_high, weight_orig_low, A), factor)
        from_sums = sums + (sample + samples) * 5
        bce, base, slope = coefficients(from_sums, own, bce_weight, dice_weight, smooth, A)
        g = branch_gradient(z, y, t, keep, weight, bce, base, slope, A)
        tl.store(grad_logits_orig + at, narrow(g, grad_logits_orig.dtype.element_ty), mask=there)
