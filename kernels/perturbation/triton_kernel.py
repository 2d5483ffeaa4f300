"""Clamp-and-project and the attack steps in Triton.

All tensors are (samples, elements); a program takes BLOCK neighbours of one sample. Sums of a
piece go to ``parts`` and become a sample's factors in a launch of one program a sample. Formulas,
traffic and what the budget means in each dtype: README.md.
"""

from __future__ import annotations

import triton
import triton.language as tl
from ansm_fast.kernels.common.triton_numbers import narrow, per_sample, real, sum_of_parts, widen

STEP_SUMS = 7  # of |g|, g g, g m, m m, g d, m d, d d with d = adv - image
STEP_SCALES = 3  # on the gradient, on the direction, on the offset
LIMITS = [f"{name}_{half}" for name in ("eps", "min", "max") for half in ("high", "low")]
STEP = ["alpha_high", "alpha_low", "decay_high", "decay_low"]


@triton.jit
def clamped(value, low, high):
    """NaN stays NaN."""
    value = tl.where(value < low, low, value)
    return tl.where(value > high, high, value)


@triton.jit
def place_of(elements, pieces, BLOCK: tl.constexpr):
    """Sample, index and validity of a program's elements."""
    program = tl.program_id(0).to(tl.int64)
    sample = program // pieces
    place = (program % pieces) * BLOCK + tl.arange(0, BLOCK)
    return sample, sample * elements + place, place < elements


@triton.jit
def within(value, x, low, high, allowed, T: tl.constexpr):
    """``value`` rounded to T. Rounding to a half type can leave the budget: one step back towards
    the image ``x`` if so."""
    stored = narrow(value, T)
    if T == tl.float16 or T == tl.bfloat16:
        rounded = widen(stored, tl.float32)
        raw = stored.to(tl.int16, bitcast=True).to(tl.int32)
        across = tl.where(rounded > x, 0x8001, 0x0001)
        step = tl.where((rounded > x) == (rounded > 0.0), -1, 1)
        back = tl.where(rounded == 0.0, across, raw + step)
        outside = (x >= low) & (x <= high) & (tl.abs(rounded - x) > allowed)
        stored = tl.where(outside, back, raw).to(tl.int16).to(T, bitcast=True)
    return stored


@triton.jit(do_not_specialize=LIMITS)
def project_kernel(
    image,
    perturbation,
    out,
    sample_eps,  # float64, read unless EPS is 0
    scales,  # float64 (samples,), read with L2: min(1, eps / norm)
    elements,
    pieces,
    eps_high,
    eps_low,
    min_high,
    min_low,
    max_high,
    max_low,
    DOUBLE: tl.constexpr,
    L2: tl.constexpr,
    EPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    sample, at, there = place_of(elements, pieces, BLOCK)
    low = real(min_high, min_low, A)
    high = real(max_high, max_low, A)
    x = widen(tl.load(image + at, mask=there, other=0.0), A)
    value = widen(tl.load(perturbation + at, mask=there, other=0.0), A)
    if L2:
        value = clamped(x + value * tl.load(scales + sample).to(A), low, high)
        allowed = tl.abs(value - x)
    else:
        allowed = per_sample(sample_eps, sample, eps_high, eps_low, EPS).to(A)
        value = clamped(x + clamped(value, -allowed, allowed), low, high)
    tl.store(out + at, within(value, x, low, high, allowed, out.dtype.element_ty), mask=there)


@triton.jit
def squares_kernel(
    perturbation,
    parts,  # float64 (samples, pieces)
    elements,
    pieces,
    DOUBLE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    _, at, there = place_of(elements, pieces, BLOCK)
    value = widen(tl.load(perturbation + at, mask=there, other=0.0), A).to(tl.float64)
    tl.store(parts + tl.program_id(0), tl.sum(value * value, 0))


@triton.jit(do_not_specialize=["eps_high", "eps_low"])
def shrink_kernel(
    parts,  # float64 (samples, pieces)
    norms,  # float64 (samples,)
    scales,  # float64 (samples,)
    sample_eps,
    pieces,
    eps_high,
    eps_low,
    EPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    sample = tl.program_id(0).to(tl.int64)
    eps = per_sample(sample_eps, sample, eps_high, eps_low, EPS)
    norm = tl.sqrt(sum_of_parts(parts, sample * pieces, pieces, BLOCK))
    tl.store(norms + sample, norm)
    tl.store(scales + sample, tl.where(norm > eps, eps / norm, 1.0))


@triton.jit(do_not_specialize=LIMITS)
def along_kernel(
    grad_output,
    image,
    perturbation,
    scales,
    parts,  # float64 (samples, pieces): perturbation . passed gradient
    elements,
    pieces,
    min_high,
    min_low,
    max_high,
    max_low,
    DOUBLE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    sample, at, there = place_of(elements, pieces, BLOCK)
    x = widen(tl.load(image + at, mask=there, other=0.0), A)
    p = widen(tl.load(perturbation + at, mask=there, other=0.0), A)
    g = widen(tl.load(grad_output + at, mask=there, other=0.0), A)
    value = x + p * tl.load(scales + sample).to(A)
    passed = (value >= real(min_high, min_low, A)) & (value <= real(max_high, max_low, A))
    along = tl.where(passed, p.to(tl.float64) * g.to(tl.float64), 0.0)
    tl.store(parts + tl.program_id(0), tl.sum(along, 0))


@triton.jit(do_not_specialize=["eps_high", "eps_low"])
def radial_kernel(
    parts,  # float64 (samples, pieces)
    norms,
    radials,  # float64 (samples,): 0 where the projection does nothing
    sample_eps,
    pieces,
    eps_high,
    eps_low,
    EPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    sample = tl.program_id(0).to(tl.int64)
    eps = per_sample(sample_eps, sample, eps_high, eps_low, EPS)
    norm = tl.load(norms + sample)
    along = sum_of_parts(parts, sample * pieces, pieces, BLOCK)
    tl.store(radials + sample, tl.where(norm > eps, along / norm / norm, 0.0))


@triton.jit(do_not_specialize=LIMITS)
def project_backward_kernel(
    grad_output,
    image,
    perturbation,
    grad_image,  # written with GRAD_IMAGE
    grad_perturbation,  # written with GRAD_PERTURBATION
    sample_eps,
    scales,
    radials,
    elements,
    pieces,
    eps_high,
    eps_low,
    min_high,
    min_low,
    max_high,
    max_low,
    DOUBLE: tl.constexpr,
    L2: tl.constexpr,
    EPS: tl.constexpr,
    GRAD_IMAGE: tl.constexpr,
    GRAD_PERTURBATION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    sample, at, there = place_of(elements, pieces, BLOCK)
    x = widen(tl.load(image + at, mask=there, other=0.0), A)
    p = widen(tl.load(perturbation + at, mask=there, other=0.0), A)
    g = widen(tl.load(grad_output + at, mask=there, other=0.0), A)
    if L2:
        shrink = tl.load(scales + sample).to(A)
        value = x + p * shrink
    else:
        eps = per_sample(sample_eps, sample, eps_high, eps_low, EPS).to(A)
        value = x + clamped(p, -eps, eps)
    inside = (value >= real(min_high, min_low, A)) & (value <= real(max_high, max_low, A))
    passed = tl.where(inside, g, 0.0)
    if GRAD_IMAGE:
        tl.store(grad_image + at, narrow(passed, grad_image.dtype.element_ty), mask=there)
    if GRAD_PERTURBATION:
        if L2:
            result = shrink * (passed - p * tl.load(radials + sample).to(A))
        else:
            result = tl.where((p >= -eps) & (p <= eps), passed, 0.0)
        result = narrow(result, grad_perturbation.dtype.element_ty)
        tl.store(grad_perturbation + at, result, mask=there)


@triton.jit
def step_parts_kernel(
    adv,
    momentum,  # read with MOMENTUM
    grad,
    image,
    parts,  # float64 (STEP_SUMS, samples, pieces), the first for MOMENTUM, the rest for L2
    samples,
    elements,
    pieces,
    DOUBLE: tl.constexpr,
    L2: tl.constexpr,
    MOMENTUM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    _, at, there = place_of(elements, pieces, BLOCK)
    to = parts + tl.program_id(0)
    step = tl.full((), samples, tl.int64) * pieces
    g = widen(tl.load(grad + at, mask=there, other=0.0), A)
    if MOMENTUM:
        tl.store(to, tl.sum(tl.abs(g), 0).to(tl.float64))
    if L2:
        g = g.to(tl.float64)
        a = widen(tl.load(adv + at, mask=there, other=0.0), A).to(tl.float64)
        d = a - widen(tl.load(image + at, mask=there, other=0.0), A).to(tl.float64)
        tl.store(to + step, tl.sum(g * g, 0))
        tl.store(to + 4 * step, tl.sum(g * d, 0))
        tl.store(to + 6 * step, tl.sum(d * d, 0))
        if MOMENTUM:
            m = widen(tl.load(momentum + at, mask=there, other=0.0), A).to(tl.float64)
            tl.store(to + 2 * step, tl.sum(g * m, 0))
            tl.store(to + 3 * step, tl.sum(m * m, 0))
            tl.store(to + 5 * step, tl.sum(m * d, 0))


@triton.jit
def inverse_norm(norm):
    """1 / norm, but 0 for a zero vector: it has no direction."""
    return tl.where(norm == 0.0, 0.0, 1.0 / norm)


@triton.jit(do_not_specialize=["eps_high", "eps_low", *STEP])
def step_scales_kernel(
    parts,  # float64 (STEP_SUMS, samples, pieces)
    scales,  # float64 (samples, STEP_SCALES)
    sample_alpha,
    sample_eps,
    samples,
    elements,
    pieces,
    alpha_high,
    alpha_low,
    eps_high,
    eps_low,
    decay_high,
    decay_low,
    L2: tl.constexpr,
    MOMENTUM: tl.constexpr,
    ALPHA: tl.constexpr,
    EPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """From a sample's sums to the factors its elements share, as kernels/perturbation/scales.h."""
    sample = tl.program_id(0).to(tl.int64)
    start = sample * pieces
    step = tl.full((), samples, tl.int64) * pieces
    scale = tl.full((), 1.0, tl.float64)
    if MOMENTUM:
        scale = inverse_norm(sum_of_parts(parts, start, pieces, BLOCK) / elements)
        tl.store(scales + sample * 3, scale)
    if L2:
        squared = scale * scale * sum_of_parts(parts, start + step, pieces, BLOCK)
        along = scale * sum_of_parts(parts, start + 4 * step, pieces, BLOCK)
        if MOMENTUM:
            decay = real(decay_high, decay_low, tl.float64)
            mixed = sum_of_parts(parts, start + 2 * step, pieces, BLOCK)
            own = sum_of_parts(parts, start + 3 * step, pieces, BLOCK)
            squared = decay * decay * own + 2.0 * decay * scale * mixed + squared
            along += decay * sum_of_parts(parts, start + 5 * step, pieces, BLOCK)
        alpha = per_sample(sample_alpha, sample, alpha_high, alpha_low, ALPHA)
        eps = per_sample(sample_eps, sample, eps_high, eps_low, EPS)
        direction = alpha * inverse_norm(tl.sqrt(tl.where(squared < 0.0, 0.0, squared)))
        offset = sum_of_parts(parts, start + 6 * step, pieces, BLOCK)
        offset += 2.0 * direction * along + direction * direction * squared
        norm = tl.sqrt(tl.where(offset < 0.0, 0.0, offset))
        tl.store(scales + sample * 3 + 1, direction)
        tl.store(scales + sample * 3 + 2, tl.where(norm > eps, eps / norm, 1.0))


@triton.jit(do_not_specialize=LIMITS + STEP)
def step_kernel(
    adv,  # written in place
    momentum,  # written in place with MOMENTUM
    grad,
    image,
    sample_alpha,
    sample_eps,
    scales,  # float64 (samples, STEP_SCALES), read with L2 or MOMENTUM
    elements,
    pieces,
    alpha_high,
    alpha_low,
    eps_high,
    eps_low,
    decay_high,
    decay_low,
    min_high,
    min_low,
    max_high,
    max_low,
    DOUBLE: tl.constexpr,
    L2: tl.constexpr,
    MOMENTUM: tl.constexpr,
    ALPHA: tl.constexpr,
    EPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    sample, at, there = place_of(elements, pieces, BLOCK)
    low = real(min_high, min_low, A)
    high = real(max_high, max_low, A)
    a = widen(tl.load(adv + at, mask=there, other=0.0), A)
    direction = widen(tl.load(grad + at, mask=there, other=0.0), A)
    x = widen(tl.load(image + at, mask=there, other=0.0), A)
    if MOMENTUM:
        before = widen(tl.load(momentum + at, mask=there, other=0.0), A)
        scale = tl.load(scales + sample * 3).to(A)
        direction = real(decay_high, decay_low, A) * before + scale * direction
        tl.store(momentum + at, narrow(direction, momentum.dtype.element_ty), mask=there)
    if L2:
        stepped = a + tl.load(scales + sample * 3 + 1).to(A) * direction
        shrink = tl.load(scales + sample * 3 + 2)
        value = tl.where(shrink < 1.0, x + (stepped - x) * shrink.to(A), stepped + (x - x))
        value = clamped(value, low, high)
        allowed = tl.abs(value - x)
    else:
        alpha = per_sample(sample_alpha, sample, alpha_high, alpha_low, ALPHA).to(A)
        allowed = per_sample(sample_eps, sample, eps_high, eps_low, EPS).to(A)
        # The sign is 0 for NaN, as torch.sign.
        moved = tl.where(direction > 0.0, alpha, 0.0) - tl.where(direction < 0.0, alpha, 0.0)
        value = clamped(a + moved, x - allowed, x + allowed)
        value = clamped(tl.where(x == x, value, x), low, high)
    tl.store(adv + at, within(value, x, low, high, allowed, adv.dtype.element_ty), mask=there)
