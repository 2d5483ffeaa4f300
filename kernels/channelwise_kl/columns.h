// Channel-wise KL on the host where the channels of a pixel are neighbours in memory.
#pragma once

#include <limits>

#include "element.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {
namespace channelwise_kl {

constexpr int64_t kChannelBlock = kMaxChannelBlock;
constexpr int64_t kPixelBlock = 64;  // pixels read twice from the cache, once from memory

template <class A>
struct Columns {
  A shift_first[kChannelBlock], shift_second[kChannelBlock];
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
                          A* buffer) {
  const A* data = fetch(field, at, n, buffer);
  if (data != buffer) return {data, stride};
  for (int64_t k = 1; k < rows; ++k) fetch(field, at + k * stride, n, buffer + k * kChannelBlock);
  return {buffer, kChannelBlock};
}

template <class A>
struct BlockSums {
  A a[kChannelBlock], b[kChannelBlock], c[kChannelBlock];
  A max_first[kChannelBlock], max_second[kChannelBlock];
  double total_a[kChannelBlock], total_b[kChannelBlock], total_c[kChannelBlock];

  void clear(int64_t n) {
    for (int64_t i = 0; i < n; ++i) total_a[i] = total_b[i] = total_c[i] = 0;
  }
  void open(int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      a[i] = b[i] = c[i] = 0;
      max_first[i] = max_second[i] = kLowest<A>;
    }
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
struct Terms {
  A first, second, difference;
};

template <class A>
ANSM_FAST_ELEMENT Terms<A> terms(A first, A second, A shift_first, A shift_second, A scale) {
  const Element<A> e = element(first, second, shift_first, shift_second, scale);
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
    const A shift_x = columns.shift_first[i], shift_y = columns.shift_second[i];
    const Terms<A> p = terms(x[i], y[i], shift_x, shift_y, scale);
    A top_x = larger(x[i], sums.max_first[i]), top_y = larger(y[i], sums.max_second[i]);
    if constexpr (kRows == kRowsAtOnce) {
      const Terms<A> q = terms(x[over + i], y[across + i], shift_x, shift_y, scale);
      const Terms<A> r = terms(x[2 * over + i], y[2 * across + i], shift_x, shift_y, scale);
      const Terms<A> s = terms(x[3 * over + i], y[3 * across + i], shift_x, shift_y, scale);
      top_x = larger(x[over + i], larger(x[2 * over + i], larger(x[3 * over + i], top_x)));
      top_y = larger(y[across + i], larger(y[2 * across + i], larger(y[3 * across + i], top_y)));
      sums.a[i] += (p.first + q.first) + (r.first + s.first);
      sums.b[i] += (p.second + q.second) + (r.second + s.second);
      sums.c[i] += (p.difference + q.difference) + (r.difference + s.difference);
    } else {
      sums.a[i] += p.first;
      sums.b[i] += p.second;
      sums.c[i] += p.difference;
    }
    sums.max_first[i] = top_x;
    sums.max_second[i] = top_y;
  }
}

template <class A>
inline void add_smoothed_terms(Tile<A> first, Tile<A> second, int64_t row, int64_t n, A scale,
                               A alpha, const Columns<A>& columns, BlockSums<A>& sums) {
  const A* x = first.data + row * first.stride;
  const A* y = second.data + row * second.stride;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const A u = (x[i] - columns.shift_first[i]) * scale,
            v = (y[i] - columns.shift_second[i]) * scale;
    const A p = exp_nonpositive(u) * columns.inverse_first[i];
    const A q = exp_nonpositive(v) * columns.inverse_second[i];
    const A term = p * smoothed_log_ratio(p, q, alpha);
    sums.a[i] += term;
    sums.b[i] += term + p * (p / (p + alpha));
    sums.c[i] -= q * (p / (q + alpha));
  }
}

// Brings the totals to the shifts that the maxima of a tile ask for.
template <class A>
void raise_shifts(int64_t n, A scale, Columns<A>& columns, BlockSums<A>& sums) {
  A factor_first[kChannelBlock], factor_second[kChannelBlock], moved[kChannelBlock];
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const A first = larger(sums.max_first[i], columns.shift_first[i]);
    const A second = larger(sums.max_second[i], columns.shift_second[i]);
    const A down_first = (columns.shift_first[i] - first) * scale;
    const A down_second = (columns.shift_second[i] - second) * scale;
    factor_first[i] = exp_nonpositive(down_first);
    factor_second[i] = exp_nonpositive(down_second);
    moved[i] = down_first - down_second;
    columns.shift_first[i] = first;
    columns.shift_second[i] = second;
  }
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const double z = sums.total_a[i], rise = z == 0 ? 0.0 : z * double(moved[i]);
    sums.total_c[i] = double(factor_first[i]) * (sums.total_c[i] + rise);
    sums.total_a[i] = double(factor_first[i]) * z;
    sums.total_b[i] = double(factor_second[i]) * sums.total_b[i];
  }
}

template <class A>
inline bool outgrown(int64_t n, A scale, const Columns<A>& columns, const BlockSums<A>& sums) {
  int found = 0;
#pragma omp simd reduction(| : found)
  for (int64_t i = 0; i < n; ++i)
    found |= int(outgrown(sums.max_first[i], columns.shift_first[i], scale)) |
             int(outgrown(sums.max_second[i], columns.shift_second[i], scale));
  return found != 0;
}

template <class A>
void add_tile(Tile<A> first, Tile<A> second, int64_t rows, int64_t n, A scale,
              const Columns<A>& columns, BlockSums<A>& sums) {
  sums.open(n);
  int64_t row = 0;
  for (; row + kRowsAtOnce <= rows; row += kRowsAtOnce)
    add_terms<A, kRowsAtOnce>(first, second, row, n, scale, columns, sums);
  for (; row < rows; ++row) add_terms<A, 1>(first, second, row, n, scale, columns, sums);
}

// The maxima alone, of the first tile: from there on they come with the sums.
template <class A>
void take_maxima(Tile<A> first, Tile<A> second, int64_t rows, int64_t n, BlockSums<A>& sums) {
  sums.open(n);
  for (int64_t row = 0; row < rows; ++row) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      sums.max_first[i] = larger(first.data[row * first.stride + i], sums.max_first[i]);
      sums.max_second[i] = larger(second.data[row * second.stride + i], sums.max_second[i]);
    }
  }
}

template <class A>
void column_statistics(const Inputs& in, int64_t begin, int64_t n, Columns<A>& columns) {
  A first_buffer[kPixelBlock * kChannelBlock], second_buffer[kPixelBlock * kChannelBlock];
  const A scale = A(in.inverse_temperature), alpha = A(in.alpha);
  for (int64_t i = 0; i < n; ++i) columns.shift_first[i] = columns.shift_second[i] = kLowest<A>;

  BlockSums<A> sums;
  sums.clear(n);
  for (int64_t block = 0; block < in.pixels; block += kPixelBlock) {
    const int64_t rows = block + kPixelBlock < in.pixels ? kPixelBlock : in.pixels - block;
    const int64_t at = begin + block * in.channels;
    const Tile<A> first = fetch_tile(in.first, at, in.channels, rows, n, first_buffer);
    const Tile<A> second = fetch_tile(in.second, at, in.channels, rows, n, second_buffer);
    if (block == 0) {
      take_maxima(first, second, rows, n, sums);
      raise_shifts(n, scale, columns, sums);
    }
    add_tile(first, second, rows, n, scale, columns, sums);
    if (outgrown(n, scale, columns, sums)) {
      raise_shifts(n, scale, columns, sums);
      add_tile(first, second, rows, n, scale, columns, sums);
    }
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
    const Tile<A> first = fetch_tile(in.first, at, in.channels, rows, n, first_buffer);
    const Tile<A> second = fetch_tile(in.second, at, in.channels, rows, n, second_buffer);
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
ANSM_FAST_ELEMENT Row<A> row_of(const Columns<A>& columns, int64_t i) {
  Row<A> row;
  row.shift_first = columns.shift_first[i];
  row.shift_second = columns.shift_second[i];
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
ANSM_FAST_ELEMENT Gradients<A> gradients(const Row<A>& row, A first, A second, A scale, A alpha,
                                         A factor) {
  const A u = (first - row.shift_first) * scale, v = (second - row.shift_second) * scale;
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
  A first_buffer[kChannelBlock], second_buffer[kChannelBlock];
  A out_first_buffer[kChannelBlock], out_second_buffer[kChannelBlock];
  const A scale = A(in.inverse_temperature), alpha = A(in.alpha), factor = A(in.gradient_scale);
  for (int64_t k = 0; k < in.pixels; ++k) {
    const int64_t at = begin + k * in.channels;
    const A* first = fetch(in.first, at, n, first_buffer);
    const A* second = fetch(in.second, at, n, second_buffer);
    A* to_first = out_first_buffer;
    A* to_second = out_second_buffer;
    if (kFirst && !in.streamed) to_first = destination(in.grad_first, at, out_first_buffer);
    if (kSecond && !in.streamed) to_second = destination(in.grad_second, at, out_second_buffer);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const Gradients<A> g = gradients<A, kFirst, kSecond, kSmoothed>(
          row_of(columns, i), first[i], second[i], scale, alpha, factor);
      if constexpr (kFirst) to_first[i] = g.first;
      if constexpr (kSecond) to_second[i] = g.second;
    }
    if constexpr (kFirst) put(in, in.grad_first, at, n, to_first);
    if constexpr (kSecond) put(in, in.grad_second, at, n, to_second);
  }
  if (in.streamed) finish_streams();
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

}  // namespace channelwise_kl
}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
