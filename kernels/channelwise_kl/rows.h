// Channel-wise KL on the host where the pixels of a channel are neighbours in memory.
#pragma once

#include "element.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {
namespace channelwise_kl {

// Where the gradient of `first` alone is wanted, exp(first) is kept in the cache until then: in the
// gradient's place or, where that is to be streamed, in a buffer. Null where it cannot be.
template <class A>
inline A* kept_exponentials(const Inputs& in, int64_t begin, A* buffer) {
  if (!in.grad_first.data || in.grad_second.data || in.alpha > 0) return nullptr;
  if (in.streamed) return in.pixels <= kKeptPixels ? buffer : nullptr;
  A* nowhere = nullptr;
  return destination(in.grad_first, begin, nowhere);
}

// Pixels that give the first shift; the maxima of all others come with the sums.
constexpr int64_t kFirstLook = 256;

template <class A>
struct RowSums {
  A first = 0, second = 0, difference = 0;
  A max_first = kLowest<A>, max_second = kLowest<A>;
};

// One block of a row: its sums under the given shifts, and its maxima.
template <class A, bool kKeep>
inline RowSums<A> block_sums(const A* first, const A* second, int64_t n, A shift_first,
                             A shift_second, A scale, A* kept) {
  A z_first = 0, z_second = 0, difference = 0;
  A max_first = kLowest<A>, max_second = kLowest<A>;
#pragma omp simd reduction(+ : z_first, z_second, difference) reduction(max : max_first, max_second)
  for (int64_t i = 0; i < n; ++i) {
    max_first = larger(first[i], max_first);
    max_second = larger(second[i], max_second);
    const Element<A> e = element(first[i], second[i], shift_first, shift_second, scale);
    const A exp_first = exp_nonpositive(e.first);
    if constexpr (kKeep) kept[i] = exp_first;
    z_first += exp_first;
    z_second += exp_nonpositive(e.second);
    difference += weighted(exp_first, e.difference);
  }
  return {z_first, z_second, difference, max_first, max_second};
}

template <class A>
inline A maximum(const A* values, int64_t n) {
  A result = kLowest<A>;
#pragma omp simd reduction(max : result)
  for (int64_t i = 0; i < n; ++i) result = larger(values[i], result);
  return result;
}

template <class A, bool kKeep>
Row<A> row_statistics(const Inputs& in, int64_t begin, A* exponentials) {
  A first_buffer[kStagedBlock], second_buffer[kStagedBlock];
  const int64_t end = begin + in.pixels;
  const A scale = A(in.inverse_temperature), alpha = A(in.alpha);
  Row<A> row;
  double total_first = 0, total_second = 0, total_difference = 0;

  // Brings the totals, and what is kept of the row before `at`, to larger shifts.
  const auto raise = [&](A shift_first, A shift_second, int64_t at) {
    const A down_first = (row.shift_first - shift_first) * scale;
    const A down_second = (row.shift_second - shift_second) * scale;
    const A factor = exp_nonpositive(down_first);
    if (total_first != 0) total_difference += total_first * double(down_first - down_second);
    total_difference *= double(factor);
    total_first *= double(factor);
    total_second *= double(exp_nonpositive(down_second));
    if constexpr (kKeep)
      for (int64_t i = 0; i < at - begin; ++i) exponentials[i] *= factor;
    row.shift_first = shift_first;
    row.shift_second = shift_second;
  };

  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* first = fetch(in.first, at, n, first_buffer);
    const A* second = fetch(in.second, at, n, second_buffer);
    A* kept = kKeep ? exponentials + (at - begin) : nullptr;
    if (at == begin) {
      const int64_t some = n < kFirstLook ? n : kFirstLook;
      raise(maximum(first, some), maximum(second, some), at);
    }
    RowSums<A> sums =
        block_sums<A, kKeep>(first, second, n, row.shift_first, row.shift_second, scale, kept);
    if (outgrown(sums.max_first, row.shift_first, scale) ||
        outgrown(sums.max_second, row.shift_second, scale)) {
      raise(larger(sums.max_first, row.shift_first), larger(sums.max_second, row.shift_second), at);
      sums = block_sums<A, kKeep>(first, second, n, row.shift_first, row.shift_second, scale, kept);
    }
    total_first += sums.first;
    total_second += sums.second;
    total_difference += sums.difference;
  }
  finish(row, total_first, total_second, total_difference);
  if (in.alpha <= 0) return row;

  double kl = 0, mean_first = 0, mean_second = 0;
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* first = fetch(in.first, at, n, first_buffer);
    const A* second = fetch(in.second, at, n, second_buffer);
    A block_kl = 0, block_first = 0, block_second = 0;
#pragma omp simd reduction(+ : block_kl, block_first, block_second)
    for (int64_t i = 0; i < n; ++i) {
      const Element<A> e = element(first[i], second[i], row.shift_first, row.shift_second, scale);
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

// The gradient of `first` from kept exponentials.
template <class A>
void row_gradient_of_kept(const Inputs& in, const Row<A>& given, int64_t begin, A* exponentials) {
  A first_buffer[kStagedBlock], second_buffer[kStagedBlock];
  const Row<A> row = given;  // a copy that no store can alias
  const int64_t end = begin + in.pixels;
  const A scale = A(in.inverse_temperature), factor = A(in.gradient_scale);
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* first = fetch(in.first, at, n, first_buffer);
    const A* second = fetch(in.second, at, n, second_buffer);
    A* gradient = exponentials + (at - begin);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const Element<A> e = element(first[i], second[i], row.shift_first, row.shift_second, scale);
      gradient[i] = factor * gradient_first(row, e.difference, gradient[i], A(0), A(0), false);
    }
    if (in.streamed) put(in, in.grad_first, at, n, gradient);
  }
}

template <class A, bool kFirst, bool kSecond, bool kSmoothed>
void row_gradients(const Inputs& in, const Row<A>& given, int64_t begin) {
  const Row<A> row = given;  // a copy that no store can alias
  A first_buffer[kStagedBlock], second_buffer[kStagedBlock];
  A out_first_buffer[kStagedBlock], out_second_buffer[kStagedBlock];
  const int64_t end = begin + in.pixels;
  const A scale = A(in.inverse_temperature), alpha = A(in.alpha), factor = A(in.gradient_scale);
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* first = fetch(in.first, at, n, first_buffer);
    const A* second = fetch(in.second, at, n, second_buffer);
    A* to_first = out_first_buffer;
    A* to_second = out_second_buffer;
    if (kFirst && !in.streamed) to_first = destination(in.grad_first, at, out_first_buffer);
    if (kSecond && !in.streamed) to_second = destination(in.grad_second, at, out_second_buffer);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const Element<A> e = element(first[i], second[i], row.shift_first, row.shift_second, scale);
      const A exp_first = exp_nonpositive(e.first);
      const A exp_second = kSecond || kSmoothed ? exp_nonpositive(e.second) : A(0);
      if constexpr (kFirst)
        to_first[i] =
            factor * gradient_first(row, e.difference, exp_first, exp_second, alpha, kSmoothed);
      if constexpr (kSecond)
        to_second[i] = factor * gradient_second(row, exp_first, exp_second, alpha, kSmoothed);
    }
    if constexpr (kFirst) put(in, in.grad_first, at, n, to_first);
    if constexpr (kSecond) put(in, in.grad_second, at, n, to_second);
  }
}

// The KL divergences of rows [begin, end), and their gradients where asked for.
template <class A>
void rows_chunk(const Inputs& in, int64_t begin, int64_t end, double* kl) {
  const bool first = in.grad_first.data, second = in.grad_second.data, smoothed = in.alpha > 0;
  alignas(64) A buffer[kKeptPixels];
  for (int64_t r = begin; r < end; ++r) {
    const int64_t at = r * in.pixels;
    A* kept = kept_exponentials(in, at, buffer);
    const Row<A> row =
        kept ? row_statistics<A, true>(in, at, kept) : row_statistics<A, false>(in, at, kept);
    kl[r] = double(row.kl);
    if (kept)
      row_gradient_of_kept(in, row, at, kept);
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
  if (in.streamed) finish_streams();
}

}  // namespace channelwise_kl
}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
