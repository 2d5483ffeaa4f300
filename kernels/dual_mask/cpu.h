// BCE + Dice of one or two branches against a mask: host kernels, one chunk of one sample a call.
// The formulas, the traffic and the choices behind them are in README.md of this folder.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "../common/isa.h"
#include "../common/log.h"
#include "../common/logistic.h"
#include "../common/masks.h"
#include "../common/staging.h"
#include "args.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {
namespace dual_mask {

using namespace ansm_fast::dual_mask;

// The sum of log(1 + e) over n numbers e >= 0, which are overwritten. As (1 + a)(1 + b) is
// 1 + (a + b + a b), 64 numbers, whose product is at most 2^64, share one logarithm, and small ones
// keep their relative precision.
template <class A>
inline double sum_of_log_of_one_plus(A* e, int64_t n) {
  for (int folds = 0; folds < 6 && n % 2 == 0; ++folds) {
    n /= 2;
    const A* other = e + n;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) e[i] = multiply_add(e[i], other[i], e[i] + other[i]);
  }
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    const A small = log_of_one_plus(e[i] > A(1) ? A(1) : e[i]);
    sum += e[i] > A(1) ? log_positive(A(1) + e[i]) : small;
  }
  return sum;
}

template <class A, bool kIgnore, bool kWeighted>
inline void add_block(const A* logits, const A* mask, const A* target, int64_t n, A pos_weight,
                      A ignored, Sums& sums) {
  const A extra_weight = pos_weight - A(1);
  A decays[kStagedBlock];
  A bce = 0, overlap = 0, probability = 0, area = 0, count = 0;
#pragma omp simd reduction(+ : bce, overlap, probability, area, count)
  for (int64_t i = 0; i < n; ++i) {
    const A z = logits[i], y = mask[i], t = target[i];
    const A e = decay_of(z), p = logistic(z, e).probability;
    // -log p is log(1 + e) - min(z, 0), and -log(1 - p) is log(1 + e) + max(z, 0).
    const A certain = kWeighted ? pos_weight * t : t;
    const A slope = kWeighted ? (z >= A(0) ? A(1) - t : -certain) : (z >= A(0) ? A(1) : A(0)) - t;
    A loss = multiply_add(slope, z, kIgnore ? A(0) : bce);  // onto the running sum where it can be
    if constexpr (kWeighted)
      loss = multiply_add(multiply_add(extra_weight, t, A(1)), log_of_one_plus(e), loss);
    if constexpr (kIgnore) {
      const bool keep = y != ignored;
      if constexpr (!kWeighted) decays[i] = keep ? e : A(0);
      bce += keep ? loss : A(0);
      overlap += keep ? p * y : A(0);
      probability += keep ? p : A(0);
      area += keep ? y : A(0);
      count += keep ? A(1) : A(0);
    } else {
      if constexpr (!kWeighted) decays[i] = e;
      bce = loss;
      overlap = multiply_add(p, y, overlap);
      probability += p;
      area += y;
    }
  }
  sums.bce += bce;
  if constexpr (!kWeighted) sums.bce += sum_of_log_of_one_plus(decays, n);
  sums.overlap += overlap;
  sums.probability += probability;
  sums.area += area;
  sums.count += kIgnore ? double(count) : double(n);
}

template <class A, bool kIgnore>
inline void write_block(const A* logits, const A* mask, const A* target, int64_t n,
                        A minus_positive, A ignored, const Coefficients& c, A* gradient) {
  const A bce = A(c.bce);
  const A base = A(c.dice_base), minus_slope = -A(c.dice_slope);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const A z = logits[i], y = mask[i], t = target[i];
    const Logistic<A> l = logistic(z, decay_of(z));
    // p [bce (1 - t) + (1 - p) (base - slope y)] - (1 - p) bce pos_weight t
    A g = multiply_add(-bce, t, bce);
    g = multiply_add(l.complement, multiply_add(minus_slope, y, base), g);
    g = multiply_add(l.probability, g, minus_positive * t * l.complement);
    gradient[i] = kIgnore && y == ignored ? A(0) : g;
  }
}

// Adds the sums of elements [begin, end) of both branches; the mask is fetched once for both.
template <class A>
void forward_chunk(const Inputs& in, int64_t begin, int64_t end, Sums* sums) {
  A logits_buffer[kStagedBlock], mask_buffer[kStagedBlock], target_buffer[kStagedBlock];
  const double ignore = in.has_ignore ? in.ignore : NAN;
  const A weight = A(in.pos_weight);
  const bool weighted = in.pos_weight != 1;
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* mask = nullptr;
    A ignored = A(0);
    for (int branch = 0; branch < in.branches; ++branch) {
      const Field &own_mask = in.mask[branch], &own_target = in.target[branch];
      if (own_mask.data) {
        mask = fetch_mask(own_mask, at, n, ignore, mask_buffer);
        ignored = ignored_number<A>(own_mask, ignore);
      }
      const A* target =
          own_target.data ? fetch_mask(own_target, at, n, NAN, target_buffer) : nullptr;
      const A* logits = fetch(in.logits[branch], at, n, logits_buffer);
      const auto add = [&](Sums& to) {
        const A* t = target ? target : mask;
        if (in.has_ignore && weighted)
          add_block<A, true, true>(logits, mask, t, n, weight, ignored, to);
        else if (in.has_ignore)
          add_block<A, true, false>(logits, mask, t, n, weight, ignored, to);
        else if (weighted)
          add_block<A, false, true>(logits, mask, t, n, weight, ignored, to);
        else
          add_block<A, false, false>(logits, mask, t, n, weight, ignored, to);
      };
      const Sums before = sums[branch];
      add(sums[branch]);
      bool again = own_mask.data && correct(own_mask, n, ignore, mask, mask_buffer);
      if (target) again = correct(own_target, n, NAN, target, target_buffer) || again;
      if (!again) continue;
      sums[branch] = before;
      add(sums[branch]);
    }
  }
}

inline void write_zeros(const Field& gradient, int64_t begin, int64_t end) {
  const int64_t size = bytes_of(gradient.type);
  std::memset(static_cast<char*>(gradient.data) + begin * size, 0, size_t((end - begin) * size));
}

// Writes the gradients of elements [begin, end) for every branch whose `gradient` is given.
template <class A>
void backward_chunk(const Inputs& in, const Coefficients* coefficients, const Field* gradient,
                    int64_t begin, int64_t end) {
  A logits_buffer[kStagedBlock], mask_buffer[kStagedBlock], target_buffer[kStagedBlock];
  A gradient_buffer[kStagedBlock];
  A minus_positive[kMaxBranches];
  Field out[kMaxBranches], target[kMaxBranches];
  for (int branch = 0; branch < in.branches; ++branch) {
    const Coefficients& c = coefficients[branch];
    const bool is_zero = c.bce == 0 && c.dice_base == 0 && c.dice_slope == 0;
    // Also where the logits are NaN.
    if (is_zero && gradient[branch].data) write_zeros(gradient[branch], begin, end);
    if (!is_zero) out[branch] = gradient[branch];
    // Without a BCE its target and weight say nothing, even where they are NaN.
    if (c.bce != 0) target[branch] = in.target[branch];
    minus_positive[branch] = c.bce != 0 ? A(-in.pos_weight) * A(c.bce) : A(0);
  }
  const double ignore = in.has_ignore ? in.ignore : NAN;
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* mask = nullptr;
    A ignored = A(0);
    const Field* unchecked = nullptr;  // the mask's
    for (int branch = 0; branch < in.branches; ++branch) {
      if (in.mask[branch].data) {
        unchecked = &in.mask[branch];
        mask = fetch_mask(*unchecked, at, n, ignore, mask_buffer);
        ignored = ignored_number<A>(*unchecked, ignore);
      }
      if (!out[branch].data) continue;
      const A* own =
          target[branch].data ? fetch_mask(target[branch], at, n, NAN, target_buffer) : nullptr;
      const A* logits = fetch(in.logits[branch], at, n, logits_buffer);
      A* values = destination(out[branch], at, gradient_buffer);
      const auto write = [&] {
        const A* t = own ? own : mask;
        const A positive = minus_positive[branch];
        const Coefficients& c = coefficients[branch];
        if (in.has_ignore)
          write_block<A, true>(logits, mask, t, n, positive, ignored, c, values);
        else
          write_block<A, false>(logits, mask, t, n, positive, ignored, c, values);
      };
      write();
      bool again = unchecked && correct(*unchecked, n, ignore, mask, mask_buffer);
      unchecked = nullptr;
      if (own) again = correct(target[branch], n, NAN, own, target_buffer) || again;
      if (again) write();
      commit(out[branch], at, n, values);
    }
  }
}

}  // namespace dual_mask
}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
