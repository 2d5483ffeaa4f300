// A logarithm that the compiler can vectorize.
#pragma once

#include "isa.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {

// log(x) for normal positive x, within 2 ulp (after Cephes); -inf for 0, NaN for NaN.
ANSM_FAST_ELEMENT float log_positive(float x) {
  const uint32_t raw = bits<uint32_t>(x);
  // Mantissa in [sqrt(1/2), sqrt(2)), so that log(1 + r) has a small argument on both sides of 1.
  const uint32_t shifted = raw - 0x3f3504f3u;
  const float exponent = float(int32_t(shifted) >> 23);
  const float r = bits<float>((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  const float square = r * r;
  float p = 7.0376836292e-2f;
  p = multiply_add(p, r, -1.1514610310e-1f);
  p = multiply_add(p, r, 1.1676998740e-1f);
  p = multiply_add(p, r, -1.2420140846e-1f);
  p = multiply_add(p, r, 1.4249322787e-1f);
  p = multiply_add(p, r, -1.6668057665e-1f);
  p = multiply_add(p, r, 2.0000714765e-1f);
  p = multiply_add(p, r, -2.4999993993e-1f);
  p = multiply_add(p, r, 3.3333331174e-1f);
  float value = r * square * p;
  value = multiply_add(exponent, -2.12194440e-4f, value);
  value = multiply_add(square, -0.5f, value);
  value = multiply_add(exponent, 0.693359375f, r + value);
  return x > 0.0f ? value : (x == 0.0f ? -INFINITY : NAN);
}

ANSM_FAST_ELEMENT double log_positive(double x) { return std::log(x); }

}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
