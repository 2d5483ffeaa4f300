// Channel-wise KL on the device: the arithmetic of one element and what its row shares. Formulas
// and edges are those of element.h.
#pragma once

#include <limits>

#include "../common/numbers.cuh"

namespace ansm_fast {
namespace gpu {
namespace channelwise_kl {

// Maxima begin here and not at -inf: nothing but -inf must leave sums at 0 and not at NaN.
template <class A>
constexpr A kLowest = std::numeric_limits<A>::lowest();

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
__device__ __forceinline__ float logarithm(float x) { return logf(x); }
__device__ __forceinline__ double logarithm(double x) { return log(x); }
__device__ __forceinline__ float logarithm_of_one_and(float x) { return log1pf(x); }
__device__ __forceinline__ double logarithm_of_one_and(double x) { return log1p(x); }
__device__ __forceinline__ float magnitude(float x) { return fabsf(x); }
__device__ __forceinline__ double magnitude(double x) { return fabs(x); }

// Everything that one row's gradient needs.
template <class A>
struct Statistics {
  A max_first, max_second;
  A inverse_first, inverse_second;  // 1 / Z
  A mean_first, mean_second;  // what p and q weigh: d under p; for alpha > 0, h under p, g under q
};
constexpr int kStatistics = 6;

// What every row of a launch shares.
template <class A>
struct Constants {
  A scale, alpha, factor;  // 1 / temperature; gradients are multiplied by `factor`
  bool smoothed;           // alpha > 0
};

// p * d, with the limit 0 where p is 0: there d may be infinite.
template <class A>
__device__ __forceinline__ A weighted(A weight, A difference) {
  return weight == A(0) ? A(0) : weight * difference;
}

// log(z_first / z_second): exactly 0 where they are equal, and precise where they nearly are.
template <class A>
__device__ __forceinline__ A log_ratio(A z_first, A z_second) {
  const bool more = z_first >= z_second;
  const A smaller = more ? z_second : z_first;
  const A ratio = logarithm_of_one_and(magnitude(z_first - z_second) / smaller);
  return more ? ratio : -ratio;
}

// sums = {Z of first, Z of second, sum of exp(u) * d}; the row's KL for alpha = 0.
template <class A, class Sum>
__device__ __forceinline__ Sum finish(const Sum (&sums)[3], Statistics<A>& row) {
  const Sum mean = sums[2] / sums[0];
  row.inverse_first = A(Sum(1) / sums[0]);
  row.inverse_second = A(Sum(1) / sums[1]);
  row.mean_first = A(mean);
  row.mean_second = A(0);
  return mean - log_ratio(sums[0], sums[1]);
}

template <class A>
__device__ __forceinline__ A smoothed_log_ratio(A p, A q, A alpha) {
  return logarithm(p + alpha) - logarithm(q + alpha);
}

// For alpha > 0, adds to the KL, the mean of h under p and the mean of g under q.
template <class A>
__device__ __forceinline__ void add_smoothed(A p, A q, A alpha, A& kl, A& mean_first,
                                             A& mean_second) {
  const A term = p * smoothed_log_ratio(p, q, alpha);
  kl += term;
  mean_first += term + p * (p / (p + alpha));
  mean_second -= q * (p / (q + alpha));
}

template <class A>
__device__ __forceinline__ A smoothed_gradient_first(A p, A q, A mean, A alpha) {
  return p * (smoothed_log_ratio(p, q, alpha) + p / (p + alpha) - mean);
}

template <class A>
__device__ __forceinline__ A smoothed_gradient_second(A p, A q, A mean, A alpha) {
  return q * (-p / (q + alpha) - mean);
}

}  // namespace channelwise_kl
}  // namespace gpu
}  // namespace ansm_fast
