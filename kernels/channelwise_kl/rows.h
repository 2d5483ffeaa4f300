// Channel-wise KL on the host where the pixels of a channel are neighbours in memory.
#pragma once

#include "element.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {
namespace channelwise_kl {

// Where the gradient of `first` alone is wanted, its place holds exp(first) until then: what the
// cache keeps need not be computed twice.
template <class A>
inline A* kept_exponentials(const Inputs& in, int64_t begin) {
  const bool alone = in.grad_first.data && !in.grad_second.data && in.alpha <= 0;
  A* nowhere = nullptr;
  return alone ? destination(in.grad_first, begin, nowhere) : nowhere;
}

template <class A, bool kKeep>
Row<A> row_statistics(const Inputs& in, int64_t begin) {
  A first_room[kStagedBlock], second_room[kStagedBlock];
  const int64_t end = begin + in.pixels;
  const A scale = A(in.inverse_temperature), alpha = A(in.alpha);
  Row<A> row;
  A max_first = row.max_first, max_second = row.max_second;
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* first = fetch(in.first, at, n, first_room);
    const A* second = fetch(in.second, at, n, second_room);
#pragma omp simd reduction(max : max_first, max_second)
    for (int64_t i = 0; i < n; ++i) {
      max_first = first[i] > max_first ? first[i] : max_first;
      max_second = second[i] > max_second ? second[i] : max_second;
    }
  }
  row.max_first = max_first;
  row.max_second = max_second;

  double total_first = 0, total_second = 0, total_difference = 0;
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* first = fetch(in.first, at, n, first_room);
    const A* second = fetch(in.second, at, n, second_room);
    A* kept = kKeep ? kept_exponentials<A>(in, at) : nullptr;
    A z_first = 0, z_second = 0, difference = 0;
#pragma omp simd reduction(+ : z_first, z_second, difference)
    for (int64_t i = 0; i < n; ++i) {
      const Element<A> e = element(first[i], second[i], max_first, max_second, scale);
      const A exp_first = exp_nonpositive(e.first);
      if constexpr (kKeep) kept[i] = exp_first;
      z_first += exp_first;
      z_second += exp_nonpositive(e.second);
      difference += weighted(exp_first, e.difference);
    }
    total_first += z_first;
    total_second += z_second;
    total_difference += difference;
  }
  finish(row, total_first, total_second, total_difference);
  if (in.alpha <= 0) return row;

  double kl = 0, mean_first = 0, mean_second = 0;
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* first = fetch(in.first, at, n, first_room);
    const A* second = fetch(in.second, at, n, second_room);
    A block_kl = 0, block_first = 0, block_second = 0;
#pragma omp simd reduction(+ : block_kl, block_first, block_second)
    for (int64_t i = 0; i < n; ++i) {
      const Element<A> e = element(first[i], second[i], max_first, max_second, scale);
      const A p = exp_nonpositive(e.first) * row.inverse_first;
      const A q = exp_nonpositive(e.second) * row.inverse_second;
      const A term = p * smoothed_log_ratio(p, q, alpha);
      block_kl += term;
      block_first += term + p * (p / (p + alpha));
      block_second -= q * (p / (q + alpha));
    }
    kl += block_kl;
    mean_first += block_first;
    mean_second += block_second;
  }
  row.kl = A(kl);
  row.mean_first = A(mean_first);
  row.mean_second = A(mean_second);
  return row;
}

// The gradient of `first` where its place holds exp(first).
template <class A>
void row_gradient_of_kept(const Inputs& in, const Row<A>& given, int64_t begin) {
  A first_room[kStagedBlock], second_room[kStagedBlock];
  const Row<A> row = given;  // a copy that no store can alias
  const int64_t end = begin + in.pixels;
  const A scale = A(in.inverse_temperature), factor = A(in.gradient_scale);
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* first = fetch(in.first, at, n, first_room);
    const A* second = fetch(in.second, at, n, second_room);
    A* gradient = kept_exponentials<A>(in, at);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const Element<A> e = element(first[i], second[i], row.max_first, row.max_second, scale);
      gradient[i] = factor * gradient_first(row, e.difference, gradient[i], A(0), A(0), false);
    }
  }
}

template <class A, bool kFirst, bool kSecond, bool kSmoothed>
void row_gradients(const Inputs& in, const Row<A>& given, int64_t begin) {
  const Row<A> row = given;  // a copy that no store can alias
  A first_room[kStagedBlock], second_room[kStagedBlock];
  A out_first_room[kStagedBlock], out_second_room[kStagedBlock];
  const int64_t end = begin + in.pixels;
  const A scale = A(in.inverse_temperature), alpha = A(in.alpha), factor = A(in.gradient_scale);
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* first = fetch(in.first, at, n, first_room);
    const A* second = fetch(in.second, at, n, second_room);
    A* to_first = kFirst ? destination(in.grad_first, at, out_first_room) : out_first_room;
    A* to_second = kSecond ? destination(in.grad_second, at, out_second_room) : out_second_room;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const Element<A> e = element(first[i], second[i], row.max_first, row.max_second, scale);
      const A exp_first = exp_nonpositive(e.first);
      const A exp_second = kSecond || kSmoothed ? exp_nonpositive(e.second) : A(0);
      if constexpr (kFirst)
        to_first[i] =
            factor * gradient_first(row, e.difference, exp_first, exp_second, alpha, kSmoothed);
      if constexpr (kSecond)
        to_second[i] = factor * gradient_second(row, exp_first, exp_second, alpha, kSmoothed);
    }
    if constexpr (kFirst) commit(in.grad_first, at, n, to_first);
    if constexpr (kSecond) commit(in.grad_second, at, n, to_second);
  }
}

// The KL divergences of rows [begin, end), and their gradients where asked for.
template <class A>
void rows_chunk(const Inputs& in, int64_t begin, int64_t end, double* kl) {
  const bool first = in.grad_first.data, second = in.grad_second.data, smoothed = in.alpha > 0;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t at = r * in.pixels;
    const bool kept = kept_exponentials<A>(in, at) != nullptr;
    const Row<A> row = kept ? row_statistics<A, true>(in, at) : row_statistics<A, false>(in, at);
    kl[r] = double(row.kl);
    if (kept)
      row_gradient_of_kept(in, row, at);
    else if (first && second)
      smoothed ? row_gradients<A, true, true, true>(in, row, at)
               : row_gradients<A, true, true, false>(in, row, at);
    else if (first)
      smoothed ? row_gradients<A, true, false, true>(in, row, at)
               : row_gradients<A, true, false, false>(in, row, at);
    else if (second)
      smoothed ? row_gradients<A, false, true, true>(in, row, at)
               : row_gradients<A, false, true, false>(in, row, at);
  }
}

}  // namespace channelwise_kl
}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
