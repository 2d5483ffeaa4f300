// One pixel's arithmetic, as the host kernels have it (cpu.h), and what both passes take.
#pragma once

#include <limits>

#include "../common/logistic.cuh"
#include "../common/masks.cuh"
#include "args.h"

namespace ansm_fast {
namespace gpu {
namespace focal {

using namespace ansm_fast::focal;

// What both passes take beside `in`, whose pos_weight is not used: the device reads its own.
struct Batch {
  int64_t pixels = 0;  // of all samples
  SampleNumber pos_weight;
  Reduction reduction = Reduction::kMean;
  double* count = nullptr;  // the pixels that are not ignored; unless the reduction is kNone
};

// Enough for the memory's latency; without a number the compiler spills registers for more.
template <int V>
constexpr int kBlocksPerProcessor = V == 8 ? 3 : 4;

// The options as the arithmetic takes them: alpha_t = alpha_base + alpha_slope * y.
template <class A>
struct Options {
  A alpha_base, alpha_slope, gamma, pos_weight, ignored;
  Modulation modulation;

  __device__ __forceinline__ Options(const Inputs& in, const SampleNumber& weight)
      : alpha_base(A(in.alpha < 0 ? 1 : 1 - in.alpha)),
        alpha_slope(A(in.alpha < 0 ? 0 : 2 * in.alpha - 1)),
        gamma(A(in.gamma)),
        pos_weight(pos_weight_of<A>(weight)),
        ignored(in.has_ignore ? A(in.ignore) : A(NAN)),
        modulation(modulation_of(in.gamma)) {}
};

template <class A>
struct Pixel {
  Logistic<A> logistic;
  A cross_entropy;
  A miss;  // 1 - p_t, as a sum of positive parts
};

template <class A>
__device__ __forceinline__ Pixel<A> pixel_of(A z, A y, A pos_weight) {
  const A e = decay_of(z), other = A(1) - y;
  const Logistic<A> l = logistic(z, e);
  // -log p is log(1 + e) - min(z, 0), and -log(1 - p) is log(1 + e) + max(z, 0).
  const A positive = pos_weight * y, slope = z >= A(0) ? other : -positive;
  const A cross_entropy = multiply_add(slope, z, (positive + other) * log_of_one_plus_fraction(e));
  return {l, cross_entropy, multiply_add(l.probability, other, l.complement * y)};
}

__device__ __forceinline__ float power(float x, float exponent) { return expf(exponent * logf(x)); }
__device__ __forceinline__ double power(double x, double exponent) {
  return exp(exponent * log(x));
}

template <class A>
constexpr A kLeast = std::numeric_limits<A>::min();

// miss^(gamma - 1), finite also where miss is 0. All threads of a launch take the same case.
template <class A>
__device__ __forceinline__ A power_below(A miss, const Options<A>& options) {
  if (options.modulation == Modulation::kSquare) return miss;
  return power(miss < kLeast<A> ? kLeast<A> : miss, options.gamma - A(1));
}

}  // namespace focal
}  // namespace gpu
}  // namespace ansm_fast
