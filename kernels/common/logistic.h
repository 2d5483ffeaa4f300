// The logistic function and its logarithm from e = exp(-|z|), which the compiler can vectorize.
#pragma once

#include "isa.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {

// sigma(z) and 1 - sigma(z): neither tail is ever the difference of close numbers.
template <class A>
struct Logistic {
  A probability;
  A complement;
};

template <class A>
ANSM_FAST_ELEMENT Logistic<A> logistic(A logit, A decay) {
  const A larger = A(1) / (A(1) + decay), smaller = decay * larger;
  return {logit >= A(0) ? larger : smaller, logit >= A(0) ? smaller : larger};
}

// log(1 + e) for e in [0, 1]: a minimax polynomial of log(1 + e) / e (within 2 ulp).
ANSM_FAST_ELEMENT float log_of_one_plus(float e) {
  float q = -3.244017685e-3f;
  q = multiply_add(q, e, 1.985142862e-2f);
  q = multiply_add(q, e, -5.695947092e-2f);
  q = multiply_add(q, e, 1.060364847e-1f);
  q = multiply_add(q, e, -1.530558879e-1f);
  q = multiply_add(q, e, 1.967593795e-1f);
  q = multiply_add(q, e, -2.495413340e-1f);
  q = multiply_add(q, e, 3.332996239e-1f);
  q = multiply_add(q, e, -4.999990242e-1f);
  q = multiply_add(q, e, 9.999999953e-1f);
  return q * e;
}

// log(1 + e) = 2 atanh(s) with s = e / (2 + e), and atanh(s) / s = 1 + s^2 q(s^2): a Chebyshev fit.
ANSM_FAST_ELEMENT double log_of_one_plus(double e) {
  const double s = e / (2.0 + e), u = s * s;
  double q = 8.269148471851348604e-2;
  q = multiply_add(q, u, 4.301989634727325652e-2);
  q = multiply_add(q, u, 6.022296893149897690e-2);
  q = multiply_add(q, u, 6.654442815581354531e-2);
  q = multiply_add(q, u, 7.692973523692795205e-2);
  q = multiply_add(q, u, 9.090886572224489044e-2);
  q = multiply_add(q, u, 1.111111156457312546e-1);
  q = multiply_add(q, u, 1.428571428076079102e-1);
  q = multiply_add(q, u, 2.000000000002419037e-1);
  q = multiply_add(q, u, 3.333333333333330236e-1);
  return 2.0 * multiply_add(s * u, q, s);
}

// exp(-|z|), but never below the normal numbers, where it is nothing beside 1. NaN for NaN. The
// sign is set as a bit: compilers make more of -fabs.
ANSM_FAST_ELEMENT float decay_of(float z) {
  const float x = bits<float>(bits<uint32_t>(z) | 1u << 31);
  return exp_normal(-87.0f > x ? -87.0f : x);
}

ANSM_FAST_ELEMENT double decay_of(double z) {
  const double x = bits<double>(bits<uint64_t>(z) | uint64_t(1) << 63);
  return exp_normal(-708.0 > x ? -708.0 : x);
}

}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
