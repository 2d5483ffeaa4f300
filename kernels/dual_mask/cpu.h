// BCE + Dice of one or two branches against a mask: host kernels, one chunk of one sample a call.
// The formulas, the traffic and the choices behind them are in README.md of this folder.
#pragma once

#include <cmath>
#include <cstdint>

#include "../common/isa.h"
#include "../common/staging.h"
#include "args.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {
namespace dual_mask {

using namespace ansm_fast::dual_mask;

// sigma(z), 1 - sigma(z) and e = exp(-|z|): neither tail is ever the difference of close numbers.
template <class A>
struct Logistic {
  A decay;
  A probability;
  A complement;
};

template <class A>
inline Logistic<A> logistic(A logit, A inverse, A decay) {
  const A tail = decay * inverse;
  return {decay, logit >= A(0) ? inverse : tail, logit >= A(0) ? tail : inverse};
}

// atanh(s)/s = 1 + s^2 q(s^2) on [0, 1/3]; Chebyshev fits of q, within half an ulp of the type.
inline float atanh_tail(float u) {
  float q = 1.342574901e-1f;
  q = multiply_add(q, u, 1.411830990e-1f);
  q = multiply_add(q, u, 2.000378032e-1f);
  return multiply_add(q, u, 3.333332017e-1f);
}

inline double atanh_tail(double u) {
  double q = 8.269148471851348604e-2;
  q = multiply_add(q, u, 4.301989634727325652e-2);
  q = multiply_add(q, u, 6.022296893149897690e-2);
  q = multiply_add(q, u, 6.654442815581354531e-2);
  q = multiply_add(q, u, 7.692973523692795205e-2);
  q = multiply_add(q, u, 9.090886572224489044e-2);
  q = multiply_add(q, u, 1.111111156457312546e-1);
  q = multiply_add(q, u, 1.428571428076079102e-1);
  q = multiply_add(q, u, 2.000000000002419037e-1);
  return multiply_add(q, u, 3.333333333333330236e-1);
}

template <class A, bool kIgnore>
inline void add_block(const A* logits, const A* mask, const A* target, int64_t n, A pos_weight,
                      A ignore, Sums& sums) {
  const A extra_weight = pos_weight - A(1);
  A bce = 0, overlap = 0, probability = 0, area = 0, count = 0;
#pragma omp simd reduction(+ : bce, overlap, probability, area, count)
  for (int64_t i = 0; i < n; ++i) {
    const A z = logits[i], y = mask[i], t = target[i];
    const A e = exp_nonpositive(-std::fabs(z));
    // One division serves both 1/(1+e) and s = e/(2+e), with log(1+e) = 2 atanh(s).
    const A one = A(1) + e, two = A(2) + e, quotient = A(1) / (one * two);
    const A inverse = two * quotient, s = e * one * quotient, u = s * s;
    const A log1p = A(2) * multiply_add(s * u, atanh_tail(u), s);
    const A positive = z > A(0) ? z : A(0), negative = z < A(0) ? z : A(0);
    const A weight = multiply_add(extra_weight, t, A(1));
    // softplus(-z) = log1p - negative. The 0 * z keeps the reference's NaN for an infinite logit.
    A loss = (A(1) - t) * positive + (weight * log1p - pos_weight * t * negative);
    loss += A(0) * negative;
    const A p = logistic(z, inverse, e).probability;
    if constexpr (kIgnore) {
      const bool keep = y != ignore;
      bce += keep ? loss : A(0);
      overlap += keep ? p * y : A(0);
      probability += keep ? p : A(0);
      area += keep ? y : A(0);
      count += keep ? A(1) : A(0);
    } else {
      bce += loss;
      overlap += p * y;
      probability += p;
      area += y;
    }
  }
  sums.bce += bce;
  sums.overlap += overlap;
  sums.probability += probability;
  sums.area += area;
  sums.count += kIgnore ? double(count) : double(n);
}

template <class A, bool kIgnore>
inline void write_block(const A* logits, const A* mask, const A* target, int64_t n, A pos_weight,
                        A ignore, const Coefficients& c, A* gradient) {
  const A bce = A(c.bce), base = A(c.dice_base), slope = A(c.dice_slope);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const A z = logits[i], y = mask[i], t = target[i];
    const A e = exp_nonpositive(-std::fabs(z));
    const Logistic<A> l = logistic(z, A(1) / (A(1) + e), e);
    const A cross = (A(1) - t) * l.probability - pos_weight * t * l.complement;
    const A g = bce * cross + l.probability * l.complement * (base - slope * y);
    gradient[i] = kIgnore && y == ignore ? A(0) : g;
  }
}

// Adds the sums of elements [begin, end) of both branches; the mask is fetched once for both.
template <class A>
void forward_chunk(const Inputs& in, int64_t begin, int64_t end, Sums* sums) {
  A logits_room[kStagedBlock], mask_room[kStagedBlock], target_room[kStagedBlock];
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* mask = nullptr;
    for (int branch = 0; branch < in.branches; ++branch) {
      if (in.mask[branch].data) mask = fetch(in.mask[branch], at, n, mask_room);
      const A* target =
          in.target[branch].data ? fetch(in.target[branch], at, n, target_room) : mask;
      const A* logits = fetch(in.logits[branch], at, n, logits_room);
      const A weight = A(in.pos_weight), ignore = A(in.ignore);
      if (in.has_ignore)
        add_block<A, true>(logits, mask, target, n, weight, ignore, sums[branch]);
      else
        add_block<A, false>(logits, mask, target, n, weight, ignore, sums[branch]);
    }
  }
}

// Writes the gradients of elements [begin, end) for every branch whose `gradient` is given.
template <class A>
void backward_chunk(const Inputs& in, const Coefficients* coefficients, const Field* gradient,
                    int64_t begin, int64_t end) {
  A logits_room[kStagedBlock], mask_room[kStagedBlock], target_room[kStagedBlock];
  A gradient_room[kStagedBlock];
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* mask = nullptr;
    for (int branch = 0; branch < in.branches; ++branch) {
      if (in.mask[branch].data) mask = fetch(in.mask[branch], at, n, mask_room);
      if (!gradient[branch].data) continue;
      const A* target =
          in.target[branch].data ? fetch(in.target[branch], at, n, target_room) : mask;
      const A* logits = fetch(in.logits[branch], at, n, logits_room);
      const A weight = A(in.pos_weight), ignore = A(in.ignore);
      A* out = destination(gradient[branch], at, gradient_room);
      if (in.has_ignore)
        write_block<A, true>(logits, mask, target, n, weight, ignore, coefficients[branch], out);
      else
        write_block<A, false>(logits, mask, target, n, weight, ignore, coefficients[branch], out);
      commit(gradient[branch], at, n, out);
    }
  }
}

}  // namespace dual_mask
}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
