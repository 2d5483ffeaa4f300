// Channel-wise KL on the host: the arithmetic of one element and what its row shares.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "../common/isa.h"
#include "../common/log.h"
#include "../common/staging.h"
#include "args.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {
namespace channelwise_kl {

using namespace ::ansm_fast::channelwise_kl;

// Exponentials are taken of logits less a shift, which follows the maximum: one read serves both.
// It may fall behind the maximum by this much (after the temperature), where a rounding of the
// exponent is still one of the smallest, before the sums are brought to a new one.
constexpr double kHeadroom = 4;

// Not -inf: a block of nothing but -inf must leave the sums at 0 and not at NaN.
template <class A>
constexpr A kLowest = std::numeric_limits<A>::lowest();

template <class A>
ANSM_FAST_ELEMENT A larger(A a, A b) {  // b where a is NaN
  return a > b ? a : b;
}

template <class A>
ANSM_FAST_ELEMENT bool outgrown(A maximum, A shift, A inverse_temperature) {
  return (maximum - shift) * inverse_temperature > A(kHeadroom);
}

// Everything that one row's gradient needs.
template <class A>
struct Row {
  A shift_first = kLowest<A>, shift_second = kLowest<A>;
  A inverse_first = 0, inverse_second = 0;  // 1 / Z
  A log_ratio = 0;                          // log Z_first - log Z_second
  A kl = 0;
  A mean_first = 0, mean_second = 0;  // of h under p and of g under q, for alpha > 0
};

// Shifted and scaled logits, and their difference: 0 where the inputs agree, whatever their size.
template <class A>
struct Element {
  A first, second, difference;
};

template <class A>
ANSM_FAST_ELEMENT Element<A> element(A first, A second, A shift_first, A shift_second,
                                     A inverse_temperature) {
  const A u = (first - shift_first) * inverse_temperature;
  const A v = (second - shift_second) * inverse_temperature;
  return {u, v, u - v};
}

// p * d, with the limit 0 where p is 0: there d may be infinite.
template <class A>
ANSM_FAST_ELEMENT A weighted(A weight, A difference) {
  return weight == A(0) ? A(0) : weight * difference;
}

template <class A>
ANSM_FAST_ELEMENT A smoothed_log_ratio(A p, A q, A alpha) {
  return log_positive(p + alpha) - log_positive(q + alpha);
}

template <class A>
inline void finish(Row<A>& row, double z_first, double z_second, double weighted_difference) {
  row.inverse_first = A(1 / z_first);
  row.inverse_second = A(1 / z_second);
  row.log_ratio = A(std::log(z_first) - std::log(z_second));
  row.kl = A(weighted_difference / z_first - (std::log(z_first) - std::log(z_second)));
}

// d loss / d logit of one element, before the gradient scale. Elements come as numbers: compilers
// do not vectorize a loop that passes its own variables by reference.
template <class A>
ANSM_FAST_ELEMENT A gradient_first(const Row<A>& row, A difference, A exp_first, A exp_second,
                                   A alpha, bool smoothed) {
  const A p = exp_first * row.inverse_first;
  if (smoothed) {
    const A q = exp_second * row.inverse_second;
    const A h = smoothed_log_ratio(p, q, alpha) + p / (p + alpha);
    return p * (h - row.mean_first);
  }
  return weighted(p, difference - (row.log_ratio + row.kl));
}

template <class A>
ANSM_FAST_ELEMENT A gradient_second(const Row<A>& row, A exp_first, A exp_second, A alpha,
                                    bool smoothed) {
  const A p = exp_first * row.inverse_first, q = exp_second * row.inverse_second;
  if (smoothed) return q * (-p / (q + alpha) - row.mean_second);
  return q - p;
}

// Writes a block of a gradient.
template <class A>
inline void put(const Inputs& in, const Field& field, int64_t at, int64_t n, const A* values) {
  in.streamed ? commit_streamed(field, at, n, values) : commit(field, at, n, values);
}

}  // namespace channelwise_kl
}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
