"""What the Triton kernels of all ops share: number types, exponential, logarithm, sums.

Arithmetic is in ``A``, float32 or float64. Triton's own conversions serve but for its interpreter,
which truncates to bfloat16 where hardware rounds to nearest.
"""

from __future__ import annotations

import struct

import triton
import triton.language as tl

# Read when a kernel is decorated, as Triton itself reads it.
INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))


def words(value: float) -> tuple[int, int]:
    """A float64 as the two int32 that ``real`` takes: Triton's own float arguments are float32."""
    high, low = struct.unpack(">ii", struct.pack(">d", float(value)))
    return high, low


@triton.jit
def real(high, low, A: tl.constexpr):
    """The number whose bits ``words`` gave."""
    top = tl.full((), high, tl.int64) << 32
    bits = top | (tl.full((), low, tl.int64) & 0xFFFFFFFF)
    return bits.to(tl.float64, bitcast=True).to(A)


@triton.jit
def widen(x, A: tl.constexpr):
    if INTERPRETED and x.dtype == tl.bfloat16:
        x = (x.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    return x.to(A)


@triton.jit
def narrow(x, T: tl.constexpr):
    """Rounded to nearest, ties to even."""
    if INTERPRETED and T == tl.bfloat16:
        bits = x.to(tl.float32).to(tl.uint32, bitcast=True)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        bits = tl.where(x == x, nearest, 0x7FC0)
        return bits.to(tl.uint16).to(tl.bfloat16, bitcast=True)
    return x.to(T)


@triton.jit
def exp_nonpositive(x, A: tl.constexpr):
    """exp(x) for x <= 0 within a few ulp; 0 for -inf, NaN for NaN.

    The hardware computes 2^x, and the rounding of x * log2(e) would cost precision in proportion
    to x: its remainder comes back as a factor.
    """
    if INTERPRETED or A == tl.float64:
        value = tl.exp(x)
    else:
        x = tl.where(x < -104.0, -104.0, x)  # exp is 0 there, and -inf has no remainder
        high = x * 1.4426950216293335
        low = tl.fma(x, 1.4426950216293335, -high)
        low = tl.fma(x, 1.9259629911266175e-8, low)
        power = tl.exp2(high)
        value = tl.fma(power, low * 0.6931471805599453, power)
    return value


@triton.jit
def log_of_one_plus(e, A: tl.constexpr):
    """log(1 + e) for e in [0, 1], small e keeping their relative precision: as on the host."""
    if A == tl.float64:
        s = e / (2.0 + e)
        u = s * s
        q = 8.269148471851348604e-2
        q = q * u + 4.301989634727325652e-2
        q = q * u + 6.022296893149897690e-2
        q = q * u + 6.654442815581354531e-2
        q = q * u + 7.692973523692795205e-2
        q = q * u + 9.090886572224489044e-2
        q = q * u + 1.111111156457312546e-1
        q = q * u + 1.428571428076079102e-1
        q = q * u + 2.000000000002419037e-1
        q = q * u + 3.333333333333330236e-1
        value = 2.0 * (s * u * q + s)
    else:
        q = e * -3.244017685e-3 + 1.985142862e-2
        q = q * e - 5.695947092e-2
        q = q * e + 1.060364847e-1
        q = q * e - 1.530558879e-1
        q = q * e + 1.967593795e-1
        q = q * e - 2.495413340e-1
        q = q * e + 3.332996239e-1
        q = q * e - 4.999990242e-1
        q = q * e + 9.999999953e-1
        value = q * e
    return value


@triton.jit
def log_of_ratio(a, b, A: tl.constexpr):
    """log(a / b) of positive numbers; exactly 0 for equal ones, and precise for close ones."""
    e = tl.abs(a - b) / tl.minimum(a, b)
    close = log_of_one_plus(tl.where(e < 1.0, e, 1.0), A)
    value = tl.where(e < 1.0, close, tl.log(1.0 + e))
    return tl.where(a < b, -value, value)


@triton.jit
def per_sample(values, sample, high, low, KIND: tl.constexpr):
    """A float64: the number (KIND 0), the tensor's only element (1), or the sample's (2)."""
    if KIND == 0:
        value = real(high, low, tl.float64)
    elif KIND == 1:
        value = tl.load(values)
    else:
        value = tl.load(values + sample)
    return value


@triton.jit
def sum_of_parts(parts, start, count, BLOCK: tl.constexpr):
    """The float64 sum of ``count`` neighbours in memory, in a fixed order."""
    total = tl.zeros([BLOCK], tl.float64)
    for k in range(0, count, BLOCK):
        at = k + tl.arange(0, BLOCK)
        total += tl.load(parts + start + at, mask=at < count, other=0.0).to(tl.float64)
    return tl.sum(total, 0)


@triton.jit
def sum_kernel(
    values,  # (rows, count) of a floating type
    out,  # (rows, programs of a row)
    count,
    spans,  # programs of a row
    divisor,
    SPAN: tl.constexpr,  # elements of one program
    BLOCK: tl.constexpr,
):
    """The sums of spans of every row, divided by ``divisor``."""
    program = tl.program_id(0).to(tl.int64)
    row = program // spans
    begin = (program % spans) * SPAN
    left = tl.minimum(tl.full((), count, tl.int64) - begin, SPAN)
    total = sum_of_parts(values, row * count + begin, left, BLOCK)
    tl.store(out + program, total / divisor)
