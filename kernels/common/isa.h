// The one place that knows the instruction set. Every host kernel lives in the namespace
// ANSM_FAST_ISA, which each translation unit names after the flags it is compiled with, so that one
// library carries several variants and the linker can never mix them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#ifndef ANSM_FAST_ISA
#define ANSM_FAST_ISA baseline
#endif

// The arithmetic of one element: never a call, or the loop around it is not vectorized.
#if defined(__GNUC__)
#define ANSM_FAST_ELEMENT inline __attribute__((always_inline))
#else
#define ANSM_FAST_ELEMENT inline
#endif

namespace ansm_fast {
namespace ANSM_FAST_ISA {

template <class To, class From>
ANSM_FAST_ELEMENT To bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "same width");
  To result;
  std::memcpy(&result, &value, sizeof(result));
  return result;
}

// Fused where the hardware has it; std::fma elsewhere would be a library call an element.
template <class A>
ANSM_FAST_ELEMENT A multiply_add(A a, A b, A c) {
#if defined(__FMA__) || defined(__aarch64__)
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

// exp(x) where it is a normal number (x in [-87, 87], or [-708, 708] in double), within 2 ulp; NaN
// for NaN. Rounding by the addition of 1.5 * 2^mantissa avoids float-to-int conversions,
// which are undefined for NaN.
ANSM_FAST_ELEMENT float exp_normal(float x) {
  constexpr float kShift = 12582912.0f + 127.0f;  // with the exponent's bias
  const float shifted = multiply_add(x, 1.44269504088896341f, kShift);
  const float n = shifted - kShift;
  float r = multiply_add(n, -0.693359375f, x);
  r = multiply_add(n, 2.12194440e-4f, r);
  float p = 1.3814598e-3f;  // minimax with 1 + r fixed: 3e-9 of the result
  p = multiply_add(p, r, 8.3687175e-3f);
  p = multiply_add(p, r, 4.1668390e-2f);
  p = multiply_add(p, r, 1.6666521e-1f);
  p = multiply_add(p, r, 4.9999994e-1f);
  p = multiply_add(p, r, 1.0f);
  p = multiply_add(p, r, 1.0f);
  return p * bits<float>(bits<uint32_t>(shifted) << 23);
}

ANSM_FAST_ELEMENT double exp_normal(double x) {
  const double shifted = multiply_add(x, 1.44269504088896340736, 6755399441055744.0);
  const double n = shifted - 6755399441055744.0;
  double r = multiply_add(n, -6.93145751953125e-1, x);
  r = multiply_add(n, -1.42860682030941723212e-6, r);
  double p = 1.0 / 6227020800.0;
  p = multiply_add(p, r, 1.0 / 479001600.0);
  p = multiply_add(p, r, 1.0 / 39916800.0);
  p = multiply_add(p, r, 1.0 / 3628800.0);
  p = multiply_add(p, r, 1.0 / 362880.0);
  p = multiply_add(p, r, 1.0 / 40320.0);
  p = multiply_add(p, r, 1.0 / 5040.0);
  p = multiply_add(p, r, 1.0 / 720.0);
  p = multiply_add(p, r, 1.0 / 120.0);
  p = multiply_add(p, r, 1.0 / 24.0);
  p = multiply_add(p, r, 1.0 / 6.0);
  p = multiply_add(p, r, 0.5);
  p = multiply_add(p, r * r, r) + 1.0;
  return p * bits<double>((bits<uint64_t>(shifted) + 1023u) << 52);
}

// The same for any x <= 0, with 0 below the normal numbers.
ANSM_FAST_ELEMENT float exp_nonpositive(float x) {
  const float value = exp_normal(x);
  return x < -87.0f ? 0.0f : value;
}

ANSM_FAST_ELEMENT double exp_nonpositive(double x) {
  const double value = exp_normal(x);
  return x < -708.0 ? 0.0 : value;
}

}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
