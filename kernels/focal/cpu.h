// The focal loss of logits against a mask: host kernels, one chunk of pixels a call. The formulas
// are in README.md of this folder.
#pragma once

#include <cstring>
#include <limits>

#include "../common/log.h"
#include "../common/logistic.h"
#include "../common/masks.h"
#include "args.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {
namespace focal {

using namespace ansm_fast::focal;

// The options as the arithmetic takes them: alpha_t = alpha_base + alpha_slope * y.
template <class A>
struct Options {
  A alpha_base, alpha_slope, gamma, pos_weight, ignored;

  explicit Options(const Inputs& in)
      : alpha_base(A(in.alpha < 0 ? 1 : 1 - in.alpha)),
        alpha_slope(A(in.alpha < 0 ? 0 : 2 * in.alpha - 1)),
        gamma(A(in.gamma)),
        pos_weight(A(in.pos_weight)),
        ignored(ignored_number<A>(in.mask, in.has_ignore ? in.ignore : NAN)) {}
};

template <class A>
struct Pixel {
  Logistic<A> logistic;
  A cross_entropy;
  A miss;  // 1 - p_t, as a sum of positive parts
};

// exp(-|z|): 0 below the normal numbers, so that an infinite logit has no other probability.
ANSM_FAST_ELEMENT float decay_to_zero(float z) {
  return exp_nonpositive(bits<float>(bits<uint32_t>(z) | 1u << 31));
}

ANSM_FAST_ELEMENT double decay_to_zero(double z) {
  return exp_nonpositive(bits<double>(bits<uint64_t>(z) | uint64_t(1) << 63));
}

template <class A>
ANSM_FAST_ELEMENT Pixel<A> pixel_of(A z, A y, A pos_weight) {
  const A e = decay_to_zero(z), other = A(1) - y;
  const Logistic<A> l = logistic(z, e);
  // -log p is log(1 + e) - min(z, 0), and -log(1 - p) is log(1 + e) + max(z, 0).
  const A positive = pos_weight * y, slope = z >= A(0) ? other : -positive;
  const A cross_entropy = multiply_add(slope, z, (positive + other) * log_of_one_plus(e));
  return {l, cross_entropy, multiply_add(l.probability, other, l.complement * y)};
}

// miss^(gamma - 1), finite also where miss is 0.
template <Modulation kModulation, class A>
ANSM_FAST_ELEMENT A power_below(A miss, A gamma) {
  if constexpr (kModulation == Modulation::kSquare) return miss;
  constexpr A kLeast = std::numeric_limits<A>::min(), kEnd = sizeof(A) == 4 ? A(87) : A(708);
  const A exponent = (gamma - A(1)) * log_positive(miss < kLeast ? kLeast : miss);
  return exp_normal(exponent < -kEnd ? -kEnd : exponent);
}

template <class A, Modulation kModulation, bool kIgnore>
inline void loss_block(const A* logits, const A* mask, int64_t n, const Options<A>& options,
                       A* losses) {
  const Options<A> o = options;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const A y = mask[i];
    const Pixel<A> pixel = pixel_of(logits[i], y, o.pos_weight);
    A loss = multiply_add(o.alpha_slope, y, o.alpha_base) * pixel.cross_entropy;
    if constexpr (kModulation != Modulation::kOne)
      loss *= pixel.miss * power_below<kModulation>(pixel.miss, o.gamma);
    losses[i] = kIgnore && y == o.ignored ? A(0) : loss;
  }
}

// The derivative by the logit, times `scale`.
template <class A, Modulation kModulation, bool kIgnore>
inline void gradient_block(const A* logits, const A* mask, int64_t n, const Options<A>& options,
                           A scale, A* gradient) {
  const Options<A> o = options;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const A y = mask[i], other = A(1) - y;
    const Pixel<A> pixel = pixel_of(logits[i], y, o.pos_weight);
    const A p = pixel.logistic.probability, q = pixel.logistic.complement;
    A slope = multiply_add(other, p, -(o.pos_weight * y * q));  // of the cross-entropy
    if constexpr (kModulation != Modulation::kOne) {
      // gamma miss^(gamma - 1) (1 - 2 y) p (1 - p) ce + miss^gamma slope
      const A spread = o.gamma * (p * q) * (other - y);
      slope = multiply_add(spread, pixel.cross_entropy, pixel.miss * slope);
      slope *= power_below<kModulation>(pixel.miss, o.gamma);
    }
    const A weight = multiply_add(o.alpha_slope, y, o.alpha_base) * scale;
    gradient[i] = kIgnore && y == o.ignored ? A(0) : weight * slope;
  }
}

// run(a constant: the modulation, a constant: whether pixels are ignored).
template <class Run>
inline void for_options(const Inputs& in, const Run& run) {
  const auto with = [&](auto modulation) {
    in.has_ignore ? run(modulation, std::true_type()) : run(modulation, std::false_type());
  };
  switch (modulation_of(in.gamma)) {
    case Modulation::kOne: return with(std::integral_constant<Modulation, Modulation::kOne>());
    case Modulation::kSquare:
      return with(std::integral_constant<Modulation, Modulation::kSquare>());
    case Modulation::kPower: return with(std::integral_constant<Modulation, Modulation::kPower>());
  }
}

template <class A>
inline double sum_of(const A* values, int64_t n) {
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += values[i];
  return sum;
}

template <class A>
inline int64_t count_of(const A* mask, int64_t n, A ignored) {
  A count = 0;
#pragma omp simd reduction(+ : count)
  for (int64_t i = 0; i < n; ++i) count += mask[i] == ignored ? A(0) : A(1);
  return int64_t(count);
}

// The losses of pixels [begin, end): into `each` where that is a place, else added to `sums`.
template <class A>
void forward_chunk(const Inputs& in, int64_t begin, int64_t end, const Field& each, Sums* sums) {
  A logits_buffer[kStagedBlock], mask_buffer[kStagedBlock], loss_buffer[kStagedBlock];
  const double ignore = in.has_ignore ? in.ignore : NAN;
  const Options<A> options(in);
  for_options(in, [&](auto modulation, auto has_ignore) {
    for (int64_t at = begin; at < end; at += kStagedBlock) {
      const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
      const A* mask = fetch_mask(in.mask, at, n, ignore, mask_buffer);
      const A* logits = fetch(in.logits, at, n, logits_buffer);
      A* losses = each.data ? destination(each, at, loss_buffer) : loss_buffer;
      const auto make = [&] {
        loss_block<A, decltype(modulation)::value, decltype(has_ignore)::value>(logits, mask, n,
                                                                                options, losses);
      };
      make();
      if (correct(in.mask, n, ignore, mask, mask_buffer)) make();
      if (each.data) {
        commit(each, at, n, losses);
        continue;
      }
      sums->loss += sum_of(losses, n);
      sums->count += double(in.has_ignore ? count_of(mask, n, options.ignored) : n);
    }
  });
}

// Writes the gradient of pixels [begin, end): the derivative by the logit times `factor`, or times
// the pixel's own factor where `factors` is a field. A factor of 0 gives 0, also where the loss is
// NaN.
template <class A>
void backward_chunk(const Inputs& in, double factor, const Field& factors, const Field& gradient,
                    int64_t begin, int64_t end) {
  if (!factors.data && factor == 0) {
    const int64_t bytes = bytes_of(gradient.type);
    std::memset(static_cast<char*>(gradient.data) + begin * bytes, 0,
                size_t((end - begin) * bytes));
    return;
  }
  A logits_buffer[kStagedBlock], mask_buffer[kStagedBlock], factor_buffer[kStagedBlock];
  A gradient_buffer[kStagedBlock];
  const double ignore = in.has_ignore ? in.ignore : NAN;
  const Options<A> options(in);
  const A scale = factors.data ? A(1) : A(factor);
  for_options(in, [&](auto modulation, auto has_ignore) {
    for (int64_t at = begin; at < end; at += kStagedBlock) {
      const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
      const A* mask = fetch_mask(in.mask, at, n, ignore, mask_buffer);
      const A* logits = fetch(in.logits, at, n, logits_buffer);
      A* values = destination(gradient, at, gradient_buffer);
      const auto make = [&] {
        gradient_block<A, decltype(modulation)::value, decltype(has_ignore)::value>(
            logits, mask, n, options, scale, values);
      };
      make();
      if (correct(in.mask, n, ignore, mask, mask_buffer)) make();
      if (factors.data) {
        const A* own = fetch(factors, at, n, factor_buffer);
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) values[i] = own[i] == A(0) ? A(0) : own[i] * values[i];
      }
      commit(gradient, at, n, values);
    }
  });
}

}  // namespace focal
}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
