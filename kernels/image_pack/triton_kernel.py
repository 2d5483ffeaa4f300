"""uint8 (N, H, W, 3) to planar or channels-last numbers in [0, 1] and back, in Triton.

``pixels`` is H * W. With LAST the numbers lie as the bytes do, (N, H * W, 3), else (N, 3, H * W).
Formulas, traffic and rounding: README.md.
"""

from __future__ import annotations

import triton
import triton.language as tl
from ansm_fast.kernels.common.triton_numbers import narrow, per_sample, widen

CHANNELS = 3


@triton.jit
def number_of(level, T: tl.constexpr):
    """level / 255, rounded to float32 (float64) and then to T: the bits of the reference."""
    if T == tl.float64:
        number = level.to(tl.float64) / 255.0
    else:
        number = narrow(tl.div_rn(level.to(tl.float32), tl.full((), 255.0, tl.float32)), T)
    return number


@triton.jit
def reversed_place(at):
    """The place of the same pixel's channel counted from its other end."""
    return at + 2 - 2 * (at % 3)


@triton.jit
def pack_kernel(
    images,  # uint8 (samples, pixels, 3)
    out,
    samples,
    pixels,
    pieces,  # of BLOCK pixels (LAST: elements, over all samples)
    BGR: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    if LAST:
        at = program * BLOCK + tl.arange(0, BLOCK)
        there = at < tl.full((), samples, tl.int64) * pixels * 3
        place = reversed_place(at) if BGR else at
        level = tl.load(images + place, mask=there, other=0)
        tl.store(out + at, number_of(level, out.dtype.element_ty), mask=there)
    else:
        sample = program // pieces
        pixel = (program % pieces) * BLOCK + tl.arange(0, BLOCK)
        there = pixel < pixels
        at = (sample * pixels + pixel) * 3
        for channel in tl.static_range(3):
            level = tl.load(images + at + channel, mask=there, other=0)
            plane = sample * 3 + (2 - channel if BGR else channel)
            to = out + plane * pixels + pixel
            tl.store(to, number_of(level, out.dtype.element_ty), mask=there)


@triton.jit
def nearest_level(value, A: tl.constexpr):
    """255 times the value clamped to [0, 1], NaN being 0, rounded half to even; an int32.

    x * 256 - x rounds as x * 255 does, and no compiler can fuse its rounding away with the sum
    that rounds to a whole number: 1.5 * 2^mantissa leaves the integer in the low bits.
    """
    value = tl.where(value > 0.0, value, 0.0)
    value = tl.where(value < 1.0, value, 1.0)
    value = value * 256.0 - value
    if A == tl.float64:
        bits = (value + 6755399441055744.0).to(tl.int64, bitcast=True).to(tl.int32)
    else:
        bits = (value + 12582912.0).to(tl.int32, bitcast=True)
    return bits & 0xFF


@triton.jit
def level_of(image, perturbation, at, there, eps, budget, NOISE: tl.constexpr, A: tl.constexpr):
    x = widen(tl.load(image + at, mask=there, other=0.0), A)
    level = nearest_level(x, A)
    if NOISE:
        p = widen(tl.load(perturbation + at, mask=there, other=0.0), A)
        p = tl.where(p < -eps, -eps, p)
        p = tl.where(p > eps, eps, p)
        start = level
        level = nearest_level(x + p, A)
        level = tl.minimum(tl.maximum(level, start - budget), start + budget)
    return level.to(tl.uint8)


@triton.jit(do_not_specialize=["eps_high", "eps_low"])
def unpack_kernel(
    image,
    perturbation,  # read with NOISE
    out,  # uint8 (samples, pixels, 3)
    sample_eps,
    pixels,
    pieces,  # of BLOCK pixels (LAST: elements) of a sample
    eps_high,
    eps_low,
    DOUBLE: tl.constexpr,
    NOISE: tl.constexpr,
    BOUNDED: tl.constexpr,
    EPS: tl.constexpr,
    BGR: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    program = tl.program_id(0).to(tl.int64)
    sample = program // pieces
    place = (program % pieces) * BLOCK + tl.arange(0, BLOCK)
    eps = tl.full((), float("inf"), A)
    budget = tl.full((), 255, tl.int32)
    if BOUNDED:
        exact_eps = per_sample(sample_eps, sample, eps_high, eps_low, EPS)
        eps = exact_eps.to(A)
        # Rounding must not spend what is left of a budget between two levels, hence whole levels.
        # The slack forgives an eps that was itself rounded to a half type.
        whole = tl.floor(exact_eps * 255.0 * (1.0 + 1.0 / 1024.0))
        budget = tl.where(whole < 255.0, whole, 255.0).to(tl.int32)
    if LAST:
        there = place < tl.full((), pixels, tl.int64) * 3
        at = sample * pixels * 3 + place
        level = level_of(image, perturbation, at, there, eps, budget, NOISE, A)
        to = reversed_place(at) if BGR else at
        tl.store(out + to, level, mask=there)
    else:
        there = place < pixels
        for channel in tl.static_range(3):
            at = (sample * 3 + channel) * pixels + place
            level = level_of(image, perturbation, at, there, eps, budget, NOISE, A)
            to = out + (sample * pixels + place) * 3 + (2 - channel if BGR else channel)
            tl.store(to, level, mask=there)
