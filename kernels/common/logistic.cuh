// The logistic function and its logarithm from e = exp(-|z|), as the host kernels have them
// (logistic.h).
#pragma once

#include "numbers.cuh"

namespace ansm_fast {
namespace gpu {

// exp(-|z|)
__device__ __forceinline__ float decay_of(float z) { return expf(-fabsf(z)); }
__device__ __forceinline__ double decay_of(double z) { return exp(-fabs(z)); }

__device__ __forceinline__ float log_of_one_plus(float e) { return log1pf(e); }
__device__ __forceinline__ double log_of_one_plus(double e) { return log1p(e); }

__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) {
  return fma(a, b, c);
}

// log(1 + e) for e in [0, 1], within 2 ulp: the host's polynomial, which costs less than log1pf.
__device__ __forceinline__ float log_of_one_plus_fraction(float e) {
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
__device__ __forceinline__ double log_of_one_plus_fraction(double e) { return log1p(e); }

// 1 / x for x in [1, 2], within 1 ulp, without the branches and the call of a division that has to
// serve every x. A parabola (1 - x r is Chebyshev's T3(2x - 3) / 99), whose error e becomes e^3.
template <class A>
__device__ __forceinline__ A cubed_error(A x, A r) {
  const A e = multiply_add(-x, r, A(1));
  return multiply_add(r, multiply_add(e, e, e), r);
}

template <class A>
__device__ __forceinline__ A parabola_of_inverse(A x) {
  return multiply_add(multiply_add(A(32.0 / 99), x, A(-144.0 / 99)), x, A(210.0 / 99));
}

__device__ __forceinline__ float inverse(float x) {
  const float r = cubed_error(x, parabola_of_inverse(x));  // within 1.1e-6
  return multiply_add(r, multiply_add(-x, r, 1.0f), r);
}

__device__ __forceinline__ double inverse(double x) {
  return cubed_error(x, cubed_error(x, parabola_of_inverse(x)));
}

// sigma(z) and 1 - sigma(z): neither tail is ever the difference of close numbers.
template <class A>
struct Logistic {
  A probability;
  A complement;
};

template <class A>
__device__ __forceinline__ Logistic<A> logistic(A logit, A decay) {
  const A larger = inverse(A(1) + decay), smaller = decay * larger;
  return {logit >= A(0) ? larger : smaller, logit >= A(0) ? smaller : larger};
}

}  // namespace gpu
}  // namespace ansm_fast
