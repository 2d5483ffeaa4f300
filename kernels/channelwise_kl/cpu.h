// Channel-wise KL divergence with its gradients: host kernels. One file holds the arithmetic of one
// element, and two walks over memory: rows of neighbouring pixels, and channels-last.
// The formulas, the traffic and the choices behind them are in README.md of this folder.
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

// Everything that one row's gradient needs.
template <class A>
struct Row {
  A max_first = -A(INFINITY), max_second = -A(INFINITY);
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
inline Element<A> element(A first, A second, A max_first, A max_second, A inverse_temperature) {
  const A u = (first - max_first) * inverse_temperature;
  const A v = (second - max_second) * inverse_temperature;
  return {u, v, u - v};
}

// p * d, with the limit 0 where p is 0: there d may be infinite.
template <class A>
inline A weighted(A weight, A difference) {
  return weight == A(0) ? A(0) : weight * difference;
}

template <class A>
inline A smoothed_log_ratio(A p, A q, A alpha) {
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
inline A gradient_first(const Row<A>& row, A difference, A exp_first, A exp_second, A alpha,
                        bool smoothed) {
  const A p = exp_first * row.inverse_first;
  if (smoothed) {
    const A q = exp_second * row.inverse_second;
    const A h = smoothed_log_ratio(p, q, alpha) + p / (p + alpha);
    return p * (h - row.mean_first);
  }
  return weighted(p, difference - (row.log_ratio + row.kl));
}

template <class A>
inline A gradient_second(const Row<A>& row, A exp_first, A exp_second, A alpha, bool smoothed) {
  const A p = exp_first * row.inverse_first, q = exp_second * row.inverse_second;
  if (smoothed) return q * (-p / (q + alpha) - row.mean_second);
  return q - p;
}

// --- rows: the pixels of a channel are neighbours ---------------------------------------------

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

// --- channels-last: the channels of a pixel are neighbours ------------------------------------

constexpr int64_t kChannelBlock = kMaxChannelBlock;
constexpr int64_t kPixelBlock = 64;  // pixels read twice from the cache, once from memory

template <class A>
struct Columns {
  A max_first[kChannelBlock], max_second[kChannelBlock];
  A inverse_first[kChannelBlock], inverse_second[kChannelBlock];
  A offset[kChannelBlock];  // log_ratio + kl
  A mean_first[kChannelBlock], mean_second[kChannelBlock];
  A kl[kChannelBlock];
};

// Some pixels of a block of channels, in the accumulation type: rows `stride` elements apart.
template <class A>
struct Tile {
  const A* data;
  int64_t stride;
};

template <class A>
inline Tile<A> fetch_tile(const Field& field, int64_t at, int64_t stride, int64_t rows, int64_t n,
                          A* room) {
  const A* data = fetch(field, at, n, room);
  if (data != room) return {data, stride};
  for (int64_t k = 1; k < rows; ++k) fetch(field, at + k * stride, n, room + k * kChannelBlock);
  return {room, kChannelBlock};
}

template <class A>
struct BlockSums {
  A a[kChannelBlock], b[kChannelBlock], c[kChannelBlock];
  double total_a[kChannelBlock], total_b[kChannelBlock], total_c[kChannelBlock];

  void clear(int64_t n) {
    for (int64_t i = 0; i < n; ++i) total_a[i] = total_b[i] = total_c[i] = 0;
  }
  void open(int64_t n) {
    for (int64_t i = 0; i < n; ++i) a[i] = b[i] = c[i] = 0;
  }
  void close(int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      total_a[i] += a[i];
      total_b[i] += b[i];
      total_c[i] += c[i];
    }
  }
};

// What follows takes four pixels at once, so that the running values of the channels are loaded and
// stored once for all of them. By hand: compilers vectorize a loop over the four instead.
constexpr int kRowsAtOnce = 4;

template <class A>
inline A larger(A a, A b) {  // b where a is NaN
  return a > b ? a : b;
}

template <class A, int kRows>
inline void raise(Tile<A> tile, int64_t row, int64_t n, A* maximum) {
  const int64_t stride = tile.stride;
  const A* x = tile.data + row * stride;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    A top = larger(x[i], maximum[i]);
    if constexpr (kRows == kRowsAtOnce) {
      top = larger(x[stride + i], top);
      top = larger(x[2 * stride + i], top);
      top = larger(x[3 * stride + i], top);
    }
    maximum[i] = top;
  }
}

template <class A>
struct Terms {
  A first, second, difference;
};

template <class A>
inline Terms<A> terms(A first, A second, A max_first, A max_second, A scale) {
  const Element<A> e = element(first, second, max_first, max_second, scale);
  const A exp_first = exp_nonpositive(e.first);
  return {exp_first, exp_nonpositive(e.second), weighted(exp_first, e.difference)};
}

template <class A, int kRows>
inline void add_terms(Tile<A> first, Tile<A> second, int64_t row, int64_t n, A scale,
                      const Columns<A>& columns, BlockSums<A>& sums) {
  const int64_t over = first.stride, across = second.stride;
  const A* x = first.data + row * over;
  const A* y = second.data + row * across;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const A top_x = columns.max_first[i], top_y = columns.max_second[i];
    const Terms<A> p = terms(x[i], y[i], top_x, top_y, scale);
    if constexpr (kRows == kRowsAtOnce) {
      const Terms<A> q = terms(x[over + i], y[across + i], top_x, top_y, scale);
      const Terms<A> r = terms(x[2 * over + i], y[2 * across + i], top_x, top_y, scale);
      const Terms<A> s = terms(x[3 * over + i], y[3 * across + i], top_x, top_y, scale);
      sums.a[i] += (p.first + q.first) + (r.first + s.first);
      sums.b[i] += (p.second + q.second) + (r.second + s.second);
      sums.c[i] += (p.difference + q.difference) + (r.difference + s.difference);
    } else {
      sums.a[i] += p.first;
      sums.b[i] += p.second;
      sums.c[i] += p.difference;
    }
  }
}

template <class A>
inline void add_smoothed_terms(Tile<A> first, Tile<A> second, int64_t row, int64_t n, A scale,
                               A alpha, const Columns<A>& columns, BlockSums<A>& sums) {
  const A* x = first.data + row * first.stride;
  const A* y = second.data + row * second.stride;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const A u = (x[i] - columns.max_first[i]) * scale, v = (y[i] - columns.max_second[i]) * scale;
    const A p = exp_nonpositive(u) * columns.inverse_first[i];
    const A q = exp_nonpositive(v) * columns.inverse_second[i];
    const A term = p * smoothed_log_ratio(p, q, alpha);
    sums.a[i] += term;
    sums.b[i] += term + p * (p / (p + alpha));
    sums.c[i] -= q * (p / (q + alpha));
  }
}

// Raises the running maxima to those of a tile and brings the totals to them, so that one read from
// memory serves maxima and sums.
template <class A>
void raise_maxima(Tile<A> first, Tile<A> second, int64_t rows, int64_t n, A scale,
                  Columns<A>& columns, BlockSums<A>& sums) {
  A max_first[kChannelBlock], max_second[kChannelBlock];
  A factor_first[kChannelBlock], factor_second[kChannelBlock], shift[kChannelBlock];
  for (int64_t i = 0; i < n; ++i) {
    max_first[i] = columns.max_first[i];
    max_second[i] = columns.max_second[i];
  }
  int64_t row = 0;
  for (; row + kRowsAtOnce <= rows; row += kRowsAtOnce) {
    raise<A, kRowsAtOnce>(first, row, n, max_first);
    raise<A, kRowsAtOnce>(second, row, n, max_second);
  }
  for (; row < rows; ++row) {
    raise<A, 1>(first, row, n, max_first);
    raise<A, 1>(second, row, n, max_second);
  }
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const A down_first = (columns.max_first[i] - max_first[i]) * scale;
    const A down_second = (columns.max_second[i] - max_second[i]) * scale;
    factor_first[i] = exp_nonpositive(down_first);
    factor_second[i] = exp_nonpositive(down_second);
    shift[i] = down_first - down_second;
    columns.max_first[i] = max_first[i];
    columns.max_second[i] = max_second[i];
  }
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const double z = sums.total_a[i], moved = z == 0 ? 0.0 : z * double(shift[i]);
    sums.total_c[i] = double(factor_first[i]) * (sums.total_c[i] + moved);
    sums.total_a[i] = double(factor_first[i]) * z;
    sums.total_b[i] = double(factor_second[i]) * sums.total_b[i];
  }
}

template <class A>
void column_statistics(const Inputs& in, int64_t begin, int64_t n, Columns<A>& columns) {
  A first_room[kPixelBlock * kChannelBlock], second_room[kPixelBlock * kChannelBlock];
  const A scale = A(in.inverse_temperature), alpha = A(in.alpha);
  // Not -inf: a tile of nothing but -inf must leave the sums at 0 and not at NaN.
  constexpr A kLowest = std::numeric_limits<A>::lowest();
  for (int64_t i = 0; i < n; ++i) columns.max_first[i] = columns.max_second[i] = kLowest;

  BlockSums<A> sums;
  sums.clear(n);
  for (int64_t block = 0; block < in.pixels; block += kPixelBlock) {
    const int64_t rows = block + kPixelBlock < in.pixels ? kPixelBlock : in.pixels - block;
    const int64_t at = begin + block * in.channels;
    const Tile<A> first = fetch_tile(in.first, at, in.channels, rows, n, first_room);
    const Tile<A> second = fetch_tile(in.second, at, in.channels, rows, n, second_room);
    raise_maxima(first, second, rows, n, scale, columns, sums);
    sums.open(n);
    int64_t row = 0;
    for (; row + kRowsAtOnce <= rows; row += kRowsAtOnce)
      add_terms<A, kRowsAtOnce>(first, second, row, n, scale, columns, sums);
    for (; row < rows; ++row) add_terms<A, 1>(first, second, row, n, scale, columns, sums);
    sums.close(n);
  }
  for (int64_t i = 0; i < n; ++i) {
    Row<A> row;
    finish(row, sums.total_a[i], sums.total_b[i], sums.total_c[i]);
    columns.inverse_first[i] = row.inverse_first;
    columns.inverse_second[i] = row.inverse_second;
    columns.offset[i] = row.log_ratio + row.kl;
    columns.kl[i] = row.kl;
  }
  if (in.alpha <= 0) return;

  sums.clear(n);
  for (int64_t block = 0; block < in.pixels; block += kPixelBlock) {
    const int64_t rows = block + kPixelBlock < in.pixels ? kPixelBlock : in.pixels - block;
    const int64_t at = begin + block * in.channels;
    const Tile<A> first = fetch_tile(in.first, at, in.channels, rows, n, first_room);
    const Tile<A> second = fetch_tile(in.second, at, in.channels, rows, n, second_room);
    sums.open(n);
    for (int64_t row = 0; row < rows; ++row)
      add_smoothed_terms(first, second, row, n, scale, alpha, columns, sums);
    sums.close(n);
  }
  for (int64_t i = 0; i < n; ++i) {
    columns.kl[i] = A(sums.total_a[i]);
    columns.mean_first[i] = A(sums.total_b[i]);
    columns.mean_second[i] = A(sums.total_c[i]);
  }
}

// The factors of one channel, as numbers.
template <class A>
inline Row<A> row_of(const Columns<A>& columns, int64_t i) {
  Row<A> row;
  row.max_first = columns.max_first[i];
  row.max_second = columns.max_second[i];
  row.inverse_first = columns.inverse_first[i];
  row.inverse_second = columns.inverse_second[i];
  row.kl = columns.offset[i];
  row.mean_first = columns.mean_first[i];
  row.mean_second = columns.mean_second[i];
  return row;
}

template <class A>
struct Gradients {
  A first, second;
};

template <class A, bool kFirst, bool kSecond, bool kSmoothed>
inline Gradients<A> gradients(const Row<A>& row, A first, A second, A scale, A alpha, A factor) {
  const A u = (first - row.max_first) * scale, v = (second - row.max_second) * scale;
  const A exp_first = exp_nonpositive(u);
  const A exp_second = kSecond || kSmoothed ? exp_nonpositive(v) : A(0);
  A to_first = 0, to_second = 0;
  if constexpr (kFirst)
    to_first = factor * gradient_first(row, u - v, exp_first, exp_second, alpha, kSmoothed);
  if constexpr (kSecond)
    to_second = factor * gradient_second(row, exp_first, exp_second, alpha, kSmoothed);
  return {to_first, to_second};
}

template <class A, bool kFirst, bool kSecond, bool kSmoothed>
void column_gradients(const Inputs& in, int64_t begin, int64_t n, const Columns<A>& columns) {
  A first_room[kChannelBlock], second_room[kChannelBlock];
  A out_first_room[kChannelBlock], out_second_room[kChannelBlock];
  const A scale = A(in.inverse_temperature), alpha = A(in.alpha), factor = A(in.gradient_scale);
  for (int64_t k = 0; k < in.pixels; ++k) {
    const int64_t at = begin + k * in.channels;
    const A* first = fetch(in.first, at, n, first_room);
    const A* second = fetch(in.second, at, n, second_room);
    A* to_first = kFirst ? destination(in.grad_first, at, out_first_room) : out_first_room;
    A* to_second = kSecond ? destination(in.grad_second, at, out_second_room) : out_second_room;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const Gradients<A> g = gradients<A, kFirst, kSecond, kSmoothed>(
          row_of(columns, i), first[i], second[i], scale, alpha, factor);
      if constexpr (kFirst) to_first[i] = g.first;
      if constexpr (kSecond) to_second[i] = g.second;
    }
    if constexpr (kFirst) commit(in.grad_first, at, n, to_first);
    if constexpr (kSecond) commit(in.grad_second, at, n, to_second);
  }
}

inline int64_t column_blocks(const Inputs& in) {
  return (in.channels + in.channel_block - 1) / in.channel_block;
}

// The KL divergences of column blocks [begin, end), counted over all samples, with gradients.
template <class A>
void columns_chunk(const Inputs& in, int64_t begin, int64_t end, double* kl) {
  const bool first = in.grad_first.data, second = in.grad_second.data, smoothed = in.alpha > 0;
  const int64_t blocks = column_blocks(in);
  Columns<A> columns;
  for (int64_t index = begin; index < end; ++index) {
    const int64_t sample = index / blocks, channel = index % blocks * in.channel_block;
    const int64_t left = in.channels - channel;
    const int64_t n = left < in.channel_block ? left : in.channel_block;
    const int64_t at = sample * in.pixels * in.channels + channel;
    column_statistics<A>(in, at, n, columns);
    for (int64_t i = 0; i < n; ++i) kl[sample * in.channels + channel + i] = double(columns.kl[i]);
    if (first && second)
      smoothed ? column_gradients<A, true, true, true>(in, at, n, columns)
               : column_gradients<A, true, true, false>(in, at, n, columns);
    else if (first)
      smoothed ? column_gradients<A, true, false, true>(in, at, n, columns)
               : column_gradients<A, true, false, false>(in, at, n, columns);
    else if (second)
      smoothed ? column_gradients<A, false, true, true>(in, at, n, columns)
               : column_gradients<A, false, true, false>(in, at, n, columns);
  }
}

// --- the backward, where the gradient was made in the forward ----------------------------------

template <class A>
void scale_rows_chunk(const Scaling& io, int64_t begin, int64_t end) {
  A room[kStagedBlock], out_room[kStagedBlock];
  for (int64_t row = begin; row < end; ++row) {
    const A factor = A(io.factor[row]);
    const int64_t stop = (row + 1) * io.pixels;
    for (int64_t at = row * io.pixels; at < stop; at += kStagedBlock) {
      const int64_t n = stop - at < kStagedBlock ? stop - at : kStagedBlock;
      const A* gradient = fetch(io.gradient, at, n, room);
      A* out = destination(io.out, at, out_room);
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) out[i] = gradient[i] * factor;
      commit(io.out, at, n, out);
    }
  }
}

// Pixels [begin, end), counted over all samples.
template <class A>
void scale_columns_chunk(const Scaling& io, int64_t begin, int64_t end) {
  A room[kStagedBlock], out_room[kStagedBlock];
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    const double* factor = io.factor + pixel / io.pixels * io.channels;
    for (int64_t channel = 0; channel < io.channels; channel += kStagedBlock) {
      const int64_t left = io.channels - channel, at = pixel * io.channels + channel;
      const int64_t n = left < kStagedBlock ? left : kStagedBlock;
      const A* gradient = fetch(io.gradient, at, n, room);
      A* out = destination(io.out, at, out_room);
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) out[i] = gradient[i] * A(factor[channel + i]);
      commit(io.out, at, n, out);
    }
  }
}

}  // namespace channelwise_kl
}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
