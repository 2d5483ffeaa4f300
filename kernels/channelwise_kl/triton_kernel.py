"""Channel-wise KL in Triton: rows that fit a tile in one launch, longer ones split in chunks.

``first`` and ``second`` hold rows of ``pixels``: contiguous (B, C, N), or with LAST (B, N, C). A
tile is R rows of BLOCK pixels. Formulas, traffic and launch shapes: README.md.
"""

from __future__ import annotations

import triton
import triton.language as tl
from ansm_fast.kernels.common.triton_numbers import (
    exp_nonpositive,
    log_of_ratio,
    narrow,
    real,
    widen,
)

PARTS = 5  # of a chunk: both maxima, both Z, the weighted difference; smoothed: the last three
STATISTICS = 6  # of a row: both maxima, both 1 / Z, and two more
NUMBERS = ["inverse_high", "inverse_low", "alpha_high", "alpha_low"]


@triton.jit
def rows_of(block, rows, channels, pixels, R: tl.constexpr, LAST: tl.constexpr):
    """R rows: their indices, where their first pixels lie, and which of them there are."""
    lane = tl.arange(0, R)
    if LAST:
        blocks = (channels + R - 1) // R
        sample = block // blocks
        channel = (block % blocks) * R + lane
        row = sample * channels + channel
        start = sample * channels * pixels + channel
        inside = channel < channels
    else:
        row = block * R + lane
        start = row * pixels
        inside = row < rows
    return row, start, inside


@triton.jit
def tile_of(start, inside, begin, channels, pixels, BLOCK: tl.constexpr, LAST: tl.constexpr):
    """Places of BLOCK pixels from ``begin`` on of every row, and which of them there are."""
    pixel = begin + tl.arange(0, BLOCK)
    if LAST:
        at = start[:, None] + pixel[None, :] * channels
    else:
        at = start[:, None] + pixel[None, :]
    return at, inside[:, None] & (pixel < pixels)[None, :]


@triton.jit
def chunk_of(program, blocks, chunks, LAST: tl.constexpr):
    """Block of rows and chunk of a program: neighbours in memory are neighbours in the grid."""
    if LAST:
        block = program % blocks
        chunk = program // blocks
    else:
        block = program // chunks
        chunk = program % chunks
    return block, chunk


@triton.jit
def load_tile(pointer, at, keep, A: tl.constexpr):
    return widen(tl.load(pointer + at, mask=keep, other=-float("inf")), A)


@triton.jit
def maximum_of(tile, A: tl.constexpr):
    """The maximum of every row, at least the lowest number: of a tile of nothing but -inf the
    sums are then 0 and not NaN."""
    lowest: tl.constexpr = -1.7976931348623157e308 if A == tl.float64 else -3.4028234663852886e38
    return tl.maximum(tl.max(tile, 1), lowest)


@triton.jit
def weighted(weight, difference):
    """The product, with the limit 0 where the weight is 0: there the difference may be infinite."""
    return tl.where(weight == 0.0, 0.0, weight * difference)


@triton.jit
def smoothed_terms(p, q, alpha):
    """p log((p + alpha) / (q + alpha)), and both gradients' terms before their means."""
    log_ratio = tl.log(p + alpha) - tl.log(q + alpha)
    return log_ratio, log_ratio + p / (p + alpha), -p / (q + alpha)


@triton.jit
def gradient_scale(scale, divisor, factors, FACTOR: tl.constexpr, A: tl.constexpr):
    """What gradients of the sum over rows are multiplied by, before they are rounded."""
    result = scale / divisor
    if FACTOR:
        result *= tl.load(factors).to(A)
    return result


@triton.jit(do_not_specialize=NUMBERS)
def rows_kernel(
    first,
    second,
    grad_first,  # as first; not touched without GRAD_FIRST
    grad_second,  # as second; not touched without GRAD_SECOND
    kl,  # (rows,); not touched with FACTOR
    factors,  # one number that multiplies the gradients; not touched without FACTOR
    rows,
    channels,
    pixels,  # at most BLOCK
    divisor,  # of the sum over rows, for the gradients
    inverse_high,  # 1 / temperature
    inverse_low,
    alpha_high,
    alpha_low,
    DOUBLE: tl.constexpr,
    SMOOTHED: tl.constexpr,  # alpha > 0
    GRAD_FIRST: tl.constexpr,
    GRAD_SECOND: tl.constexpr,
    FACTOR: tl.constexpr,
    LAST: tl.constexpr,
    R: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """KL(first || second) of rows and its gradients; each input read once."""
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    scale = real(inverse_high, inverse_low, A)
    times = gradient_scale(scale, divisor, factors, FACTOR, A)
    block = tl.program_id(0).to(tl.int64)
    row, start, inside = rows_of(block, rows, channels, pixels, R, LAST)
    at, keep = tile_of(start, inside, 0, channels, pixels, BLOCK, LAST)
    x = load_tile(first, at, keep, A)
    y = load_tile(second, at, keep, A)
    u = (x - maximum_of(x, A)[:, None]) * scale
    v = (y - maximum_of(y, A)[:, None]) * scale
    p = exp_nonpositive(u, A)
    q = exp_nonpositive(v, A)
    z_first = tl.sum(p, 1)
    z_second = tl.sum(q, 1)
    if SMOOTHED:
        alpha = real(alpha_high, alpha_low, A)
        p = p * (1.0 / z_first)[:, None]
        q = q * (1.0 / z_second)[:, None]
        log_ratio, slope_first, slope_second = smoothed_terms(p, q, alpha)
        if not FACTOR:
            tl.store(kl + row, tl.sum(tl.where(keep, p * log_ratio, 0.0), 1), mask=inside)
        if GRAD_FIRST:
            mean = tl.sum(tl.where(keep, p * slope_first, 0.0), 1)
            to_first = times * (p * (slope_first - mean[:, None]))
        if GRAD_SECOND:
            mean = tl.sum(tl.where(keep, q * slope_second, 0.0), 1)
            to_second = times * (q * (slope_second - mean[:, None]))
    else:
        difference = u - v
        log_ratio = log_of_ratio(z_first, z_second, A)
        value = tl.sum(weighted(p, difference), 1) / z_first - log_ratio
        if not FACTOR:
            tl.store(kl + row, value, mask=inside)
        if GRAD_FIRST or GRAD_SECOND:
            p = p * (1.0 / z_first)[:, None]
        if GRAD_FIRST:
            offset = (log_ratio + value)[:, None]
            to_first = times * weighted(p, difference - offset)
        if GRAD_SECOND:
            q = q * (1.0 / z_second)[:, None]
            to_second = times * (q - p)
    if GRAD_FIRST:
        tl.store(grad_first + at, narrow(to_first, grad_first.dtype.element_ty), mask=keep)
    if GRAD_SECOND:
        tl.store(grad_second + at, narrow(to_second, grad_second.dtype.element_ty), mask=keep)


@triton.jit(do_not_specialize=NUMBERS)
def parts_kernel(
    first,
    second,
    parts,  # (PARTS, chunks, rows)
    rows,
    channels,
    pixels,
    blocks,  # of R rows
    chunks,  # of BLOCK pixels
    inverse_high,
    inverse_low,
    DOUBLE: tl.constexpr,
    LAST: tl.constexpr,
    R: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The sums of one chunk of R rows, with respect to the chunk's own maxima."""
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    scale = real(inverse_high, inverse_low, A)
    block, chunk = chunk_of(tl.program_id(0).to(tl.int64), blocks, chunks, LAST)
    row, start, inside = rows_of(block, rows, channels, pixels, R, LAST)
    at, keep = tile_of(start, inside, chunk * BLOCK, channels, pixels, BLOCK, LAST)
    x = load_tile(first, at, keep, A)
    y = load_tile(second, at, keep, A)
    max_first = maximum_of(x, A)
    max_second = maximum_of(y, A)
    u = (x - max_first[:, None]) * scale
    v = (y - max_second[:, None]) * scale
    p = exp_nonpositive(u, A)
    to = parts + chunk * rows + row
    step = tl.full((), chunks, tl.int64) * rows
    tl.store(to, max_first, mask=inside)
    tl.store(to + step, max_second, mask=inside)
    tl.store(to + 2 * step, tl.sum(p, 1), mask=inside)
    tl.store(to + 3 * step, tl.sum(exp_nonpositive(v, A), 1), mask=inside)
    tl.store(to + 4 * step, tl.sum(weighted(p, u - v), 1), mask=inside)


@triton.jit
def load_parts(parts, row, inside, begin, rows, chunks, other, CHUNKS: tl.constexpr):
    chunk = begin + tl.arange(0, CHUNKS)
    at = chunk[None, :].to(tl.int64) * rows + row[:, None]
    keep = inside[:, None] & (chunk < chunks)[None, :]
    return tl.load(parts + at, mask=keep, other=other)


@triton.jit(do_not_specialize=NUMBERS)
def combine_kernel(
    parts,  # (PARTS, chunks, rows)
    statistics,  # (STATISTICS, rows)
    kl,  # (rows,)
    rows,
    chunks,
    inverse_high,
    inverse_low,
    DOUBLE: tl.constexpr,
    R: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """The chunks' sums brought to their row's maxima and added in a fixed order."""
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    lowest: tl.constexpr = -1.7976931348623157e308 if DOUBLE else -3.4028234663852886e38
    scale = real(inverse_high, inverse_low, A)
    row = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    inside = row < rows
    step = tl.full((), chunks, tl.int64) * rows
    # Loops keep tiles, which are reduced once: cheaper, and some versions of Triton cannot compile
    # a sum whose loop reduces.
    max_first = tl.full([R, CHUNKS], lowest, A)
    max_second = tl.full([R, CHUNKS], lowest, A)
    for begin in range(0, chunks, CHUNKS):
        tops = load_parts(parts, row, inside, begin, rows, chunks, lowest, CHUNKS)
        max_first = tl.maximum(max_first, tops)
        tops = load_parts(parts + step, row, inside, begin, rows, chunks, lowest, CHUNKS)
        max_second = tl.maximum(max_second, tops)
    max_first = tl.max(max_first, 1)
    max_second = tl.max(max_second, 1)
    z_first = tl.zeros([R, CHUNKS], A)
    z_second = tl.zeros([R, CHUNKS], A)
    total = tl.zeros([R, CHUNKS], A)
    for begin in range(0, chunks, CHUNKS):
        tops = load_parts(parts, row, inside, begin, rows, chunks, lowest, CHUNKS)
        down_first = (tops - max_first[:, None]) * scale
        tops = load_parts(parts + step, row, inside, begin, rows, chunks, lowest, CHUNKS)
        down_second = (tops - max_second[:, None]) * scale
        z = load_parts(parts + 2 * step, row, inside, begin, rows, chunks, 0.0, CHUNKS)
        part = load_parts(parts + 4 * step, row, inside, begin, rows, chunks, 0.0, CHUNKS)
        part += weighted(z, down_first - down_second)
        factor = exp_nonpositive(down_first, A)
        total += factor * part
        z_first += factor * z
        z = load_parts(parts + 3 * step, row, inside, begin, rows, chunks, 0.0, CHUNKS)
        z_second += exp_nonpositive(down_second, A) * z
    z_first = tl.sum(z_first, 1)
    z_second = tl.sum(z_second, 1)
    total = tl.sum(total, 1)
    log_ratio = log_of_ratio(z_first, z_second, A)
    value = total / z_first - log_ratio
    tl.store(kl + row, value, mask=inside)
    to = statistics + row
    each = tl.full((), rows, tl.int64)
    tl.store(to, max_first, mask=inside)
    tl.store(to + each, max_second, mask=inside)
    tl.store(to + 2 * each, 1.0 / z_first, mask=inside)
    tl.store(to + 3 * each, 1.0 / z_second, mask=inside)
    tl.store(to + 4 * each, log_ratio + value, mask=inside)


@triton.jit(do_not_specialize=NUMBERS)
def smoothed_parts_kernel(
    first,
    second,
    statistics,  # (STATISTICS, rows)
    parts,  # (PARTS, chunks, rows)
    rows,
    channels,
    pixels,
    blocks,
    chunks,
    inverse_high,
    inverse_low,
    alpha_high,
    alpha_low,
    DOUBLE: tl.constexpr,
    LAST: tl.constexpr,
    R: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """For alpha > 0: one chunk's share of KL and of the gradients' means."""
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    scale = real(inverse_high, inverse_low, A)
    alpha = real(alpha_high, alpha_low, A)
    block, chunk = chunk_of(tl.program_id(0).to(tl.int64), blocks, chunks, LAST)
    row, start, inside = rows_of(block, rows, channels, pixels, R, LAST)
    at, keep = tile_of(start, inside, chunk * BLOCK, channels, pixels, BLOCK, LAST)
    u = (load_tile(first, at, keep, A) - row_value(statistics, 0, row, rows, inside)) * scale
    v = (load_tile(second, at, keep, A) - row_value(statistics, 1, row, rows, inside)) * scale
    p = exp_nonpositive(u, A) * row_value(statistics, 2, row, rows, inside)
    q = exp_nonpositive(v, A) * row_value(statistics, 3, row, rows, inside)
    log_ratio, slope_first, slope_second = smoothed_terms(p, q, alpha)
    to = parts + chunk * rows + row
    step = tl.full((), chunks, tl.int64) * rows
    tl.store(to + 2 * step, tl.sum(tl.where(keep, p * log_ratio, 0.0), 1), mask=inside)
    tl.store(to + 3 * step, tl.sum(tl.where(keep, p * slope_first, 0.0), 1), mask=inside)
    tl.store(to + 4 * step, tl.sum(tl.where(keep, q * slope_second, 0.0), 1), mask=inside)


@triton.jit
def row_value(statistics, index, row, rows, inside):
    """One of a row's statistics, as a column beside its tile."""
    at = statistics + index * tl.full((), rows, tl.int64) + row
    return tl.load(at, mask=inside, other=0.0)[:, None]


@triton.jit
def smoothed_combine_kernel(
    parts,  # (PARTS, chunks, rows)
    statistics,  # (STATISTICS, rows)
    kl,  # (rows,)
    rows,
    chunks,
    DOUBLE: tl.constexpr,
    R: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    row = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    inside = row < rows
    step = tl.full((), chunks, tl.int64) * rows
    value = tl.zeros([R, CHUNKS], A)
    mean_first = tl.zeros([R, CHUNKS], A)
    mean_second = tl.zeros([R, CHUNKS], A)
    for begin in range(0, chunks, CHUNKS):
        value += load_parts(parts + 2 * step, row, inside, begin, rows, chunks, 0.0, CHUNKS)
        mean_first += load_parts(parts + 3 * step, row, inside, begin, rows, chunks, 0.0, CHUNKS)
        mean_second += load_parts(parts + 4 * step, row, inside, begin, rows, chunks, 0.0, CHUNKS)
    value = tl.sum(value, 1)
    mean_first = tl.sum(mean_first, 1)
    mean_second = tl.sum(mean_second, 1)
    tl.store(kl + row, value, mask=inside)
    each = tl.full((), rows, tl.int64)
    tl.store(statistics + 4 * each + row, mean_first, mask=inside)
    tl.store(statistics + 5 * each + row, mean_second, mask=inside)


@triton.jit(do_not_specialize=NUMBERS)
def gradient_kernel(
    first,
    second,
    statistics,  # (STATISTICS, rows)
    grad_first,
    grad_second,
    factors,  # as in rows_kernel
    rows,
    channels,
    pixels,
    blocks,
    chunks,
    divisor,
    inverse_high,
    inverse_low,
    alpha_high,
    alpha_low,
    DOUBLE: tl.constexpr,
    SMOOTHED: tl.constexpr,
    GRAD_FIRST: tl.constexpr,
    GRAD_SECOND: tl.constexpr,
    FACTOR: tl.constexpr,
    LAST: tl.constexpr,
    R: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The gradients of one chunk of R rows."""
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    scale = real(inverse_high, inverse_low, A)
    alpha = real(alpha_high, alpha_low, A)
    block, chunk = chunk_of(tl.program_id(0).to(tl.int64), blocks, chunks, LAST)
    row, start, inside = rows_of(block, rows, channels, pixels, R, LAST)
    at, keep = tile_of(start, inside, chunk * BLOCK, channels, pixels, BLOCK, LAST)
    u = (load_tile(first, at, keep, A) - row_value(statistics, 0, row, rows, inside)) * scale
    v = (load_tile(second, at, keep, A) - row_value(statistics, 1, row, rows, inside)) * scale
    p = exp_nonpositive(u, A) * row_value(statistics, 2, row, rows, inside)
    if GRAD_SECOND or SMOOTHED:
        q = exp_nonpositive(v, A) * row_value(statistics, 3, row, rows, inside)
    if SMOOTHED:
        _, slope_first, slope_second = smoothed_terms(p, q, alpha)
        if GRAD_FIRST:
            to_first = p * (slope_first - row_value(statistics, 4, row, rows, inside))
        if GRAD_SECOND:
            to_second = q * (slope_second - row_value(statistics, 5, row, rows, inside))
    else:
        if GRAD_FIRST:
            to_first = weighted(p, u - v - row_value(statistics, 4, row, rows, inside))
        if GRAD_SECOND:
            to_second = q - p
    times = gradient_scale(scale, divisor, factors, FACTOR, A)
    if GRAD_FIRST:
        to_first = narrow(times * to_first, grad_first.dtype.element_ty)
        tl.store(grad_first + at, to_first, mask=keep)
    if GRAD_SECOND:
        to_second = narrow(times * to_second, grad_second.dtype.element_ty)
        tl.store(grad_second + at, to_second, mask=keep)


@triton.jit
def scale_kernel(
    gradient,
    out,  # may be gradient itself
    factors,  # (rows,), or one with UNIFORM
    rows,
    channels,
    pixels,
    blocks,
    chunks,
    DOUBLE: tl.constexpr,
    UNIFORM: tl.constexpr,
    IN_PLACE: tl.constexpr,
    LAST: tl.constexpr,
    R: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """gradient * factor; in place, rows whose factor is 1 are not touched."""
    A: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    block, chunk = chunk_of(tl.program_id(0).to(tl.int64), blocks, chunks, LAST)
    row, start, inside = rows_of(block, rows, channels, pixels, R, LAST)
    if UNIFORM:
        factor = tl.load(factors + 0 * row, mask=inside, other=0.0)
    else:
        factor = tl.load(factors + row, mask=inside, other=0.0)
    if IN_PLACE:
        inside = inside & (factor != 1.0)
    at, keep = tile_of(start, inside, chunk * BLOCK, channels, pixels, BLOCK, LAST)
    value = widen(tl.load(gradient + at, mask=keep, other=0.0), A) * factor.to(A)[:, None]
    tl.store(out + at, narrow(value, out.dtype.element_ty), mask=keep)
