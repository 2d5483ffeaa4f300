// Maps whose channels are neighbours in memory: neighbouring threads take neighbouring channels,
// and the pixels are cut into chunks of constant length, whose partial results `combine` brings
// together.
#pragma once

#include "cuda_held.cuh"

namespace ansm_fast {
namespace gpu {
namespace channelwise_kl {

constexpr int kColumnThreads = 256;
// Longer where a thread has one channel: there are more chunks' results for as many bytes.
template <int V>
constexpr int kPixelsOfThread = V == 1 ? 64 : 32;

// Blocks that a multiprocessor must hold. The compiler's own choice is one that spills a few words.
template <class T, int V>
constexpr int kColumnBlocks = (V == 1 ? 4 : 2) / (sizeof(T) == 8 ? 2 : 1);

// V channels of every so many pixels: what one thread takes. `Layer::lanes` threads, a power of two
// of at most kWarp, lie across channels, the others of the block across pixels.
template <class T, int V>
struct Column {
  using A = accumulate_t<T>;
  static constexpr int kAtOnce =
      V == 8 || sizeof(A) == 8 ? 2 : 4;  // pixels that are loaded together

  int64_t sample, chunk;
  int64_t tile, channel;     // the first channel of the block; the first of V
  int64_t row;               // of that channel
  int64_t begin, end, step;  // pixels
  int64_t origin, channels;  // where its pixel 0 lies; from a pixel to the next

  __device__ __forceinline__ Column(const Layer& layer, int64_t block) {
    const int lanes = layer.lanes, thread = int(threadIdx.x);
    const int64_t tiles = (layer.channels + lanes * V - 1) / (lanes * V);
    const int64_t run = block / tiles;
    sample = run / layer.chunks;
    chunk = run - sample * layer.chunks;
    tile = (block - run * tiles) * lanes * V;
    channel = tile + thread % lanes * V;
    row = sample * layer.channels + channel;
    step = kColumnThreads / lanes;
    const int64_t start = chunk * step * kPixelsOfThread<V>;
    begin = start + thread / lanes;
    end = start + step * kPixelsOfThread<V>;
    if (end > layer.pixels) end = layer.pixels;
    if (!has_channel(layer)) end = begin;
    channels = layer.channels;
    origin = sample * layer.pixels * channels + channel;
  }

  __device__ __forceinline__ bool has_channel(const Layer& layer) const {
    return channel < layer.channels;
  }
  __device__ __forceinline__ int64_t at_pixel(int64_t pixel) const {
    return origin + pixel * channels;
  }

  // kAtOnce pixels from `pixel` on; those beyond the end are -inf and add nothing.
  __device__ __forceinline__ void load(const Layer& layer, int64_t pixel, A (&first)[kAtOnce][V],
                                       A (&second)[kAtOnce][V]) const {
    Vector<T, V> raw_first[kAtOnce], raw_second[kAtOnce];
    const T nothing = from<T>(-A(INFINITY));
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (pixel + k * step < end) {
        const int64_t place = at_pixel(pixel + k * step);
        raw_first[k] = *reinterpret_cast<const Vector<T, V>*>(at<T>(layer.first, place));
        raw_second[k] = *reinterpret_cast<const Vector<T, V>*>(at<T>(layer.second, place));
      } else {
#pragma unroll
        for (int i = 0; i < V; ++i) raw_first[k].value[i] = raw_second[k].value[i] = nothing;
      }
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
#pragma unroll
      for (int i = 0; i < V; ++i) {
        first[k][i] = to<A>(raw_first[k].value[i]);
        second[k][i] = to<A>(raw_second[k].value[i]);
      }
    }
  }
};

// The statistics of V neighbouring rows, in vectors of at most four, see `Layer::slot_of`.
template <class A, int V>
__device__ __forceinline__ void load_statistics(const Layers& layers, const Layer& layer, int which,
                                                int64_t row, A (&values)[V]) {
  constexpr int kTogether = V < kVectorWidth<A> ? V : kVectorWidth<A>;
#pragma unroll
  for (int i = 0; i < V; i += kTogether) {
    A piece[kTogether];
    load<kTogether>(statistic<A>(layers, layer, which, row + i), piece);
#pragma unroll
    for (int j = 0; j < kTogether; ++j) values[i + j] = piece[j];
  }
}

// Over the threads of a block that share their channels: larger values, or sums. Those of the first
// `lanes` threads in `buffer`, which has an element of each value for each thread, are the results.
template <bool kMaximum, int kArrays, int V, class A>
__device__ __forceinline__ void across_pixels(const A (&values)[kArrays][V], A* buffer, int lanes) {
  A* const mine = buffer + threadIdx.x;
#pragma unroll
  for (int i = 0; i < kArrays * V; ++i) mine[i * kColumnThreads] = values[i / V][i % V];
  for (int half = kColumnThreads / 2; half >= lanes; half /= 2) {
    __syncthreads();
    if (int(threadIdx.x) < half) {
#pragma unroll
      for (int i = 0; i < kArrays * V; ++i) {
        A& value = mine[i * kColumnThreads];
        const A other = mine[i * kColumnThreads + half];
        value = kMaximum ? larger(value, other) : value + other;
      }
    }
  }
  __syncthreads();
}

// The results that `across_pixels` left, as partial results `which` and those that follow it:
// neighbouring threads write those of neighbouring channels.
template <int kArrays, class T, int V, class A>
__device__ __forceinline__ void store_partials(const Layers& layers, const Layer& layer, int which,
                                               const Column<T, V>& column, const A* buffer) {
  for (int i = int(threadIdx.x); i < layer.lanes * V; i += kColumnThreads) {
    if (column.tile + i >= layer.channels) break;
    const int64_t row = column.sample * layer.channels + column.tile + i;
    const int64_t place = column_place(layer, row, column.chunk);
#pragma unroll
    for (int k = 0; k < kArrays; ++k)
      *partial<A>(layers, which + k, place) = buffer[(k * V + i % V) * kColumnThreads + i / V];
  }
}

template <class A, int V>
struct ColumnSums {
  A maxima[kMaxima][V], sums[3][V];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      maxima[0][i] = maxima[1][i] = kLowest<A>;
      sums[0][i] = sums[1][i] = sums[2][i] = A(0);
    }
  }

  // Brings the sums to maxima that are at least as large.
  __device__ __forceinline__ void raise(int i, A to_first, A to_second, A scale) {
    const A down_first = (maxima[0][i] - to_first) * scale;
    const A down_second = (maxima[1][i] - to_second) * scale;
    const A factor = exponential(down_first);
    const A moved = weighted(sums[0][i], down_first - down_second);
    sums[2][i] = weighted(factor, sums[2][i] + moved);
    sums[0][i] *= factor;
    sums[1][i] *= exponential(down_second);
    maxima[0][i] = to_first;
    maxima[1][i] = to_second;
  }
};

template <class T, int V>
__global__ void __launch_bounds__(kColumnThreads, kColumnBlocks<T, V>)
    column_statistics(Layers layers) {
  using A = accumulate_t<T>;
  using Mine = Column<T, V>;
  ANSM_FAST_SHARED(A, buffer, 3 * V * kColumnThreads);
  const Place place = place_of(layers, layers.first_block + blockIdx.x);
  const Layer& layer = layers.layer[place.layer];
  const Mine column(layer, place.block);
  const A scale = A(layers.inverse_temperature);
  ColumnSums<A, V> total;
  total.clear();
  for (int64_t pixel = column.begin; pixel < column.end; pixel += Mine::kAtOnce * column.step) {
    A first[Mine::kAtOnce][V], second[Mine::kAtOnce][V];
    column.load(layer, pixel, first, second);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      A max_first = total.maxima[0][i], max_second = total.maxima[1][i];
#pragma unroll
      for (int k = 0; k < Mine::kAtOnce; ++k) {
        max_first = larger(max_first, first[k][i]);
        max_second = larger(max_second, second[k][i]);
      }
      total.raise(i, max_first, max_second, scale);
#pragma unroll
      for (int k = 0; k < Mine::kAtOnce; ++k) {
        const A u = (first[k][i] - max_first) * scale, v = (second[k][i] - max_second) * scale;
        const A exp_first = exponential(u);
        total.sums[0][i] += exp_first;
        total.sums[1][i] += exponential(v);
        total.sums[2][i] += weighted(exp_first, u - v);
      }
    }
  }

  across_pixels<true>(total.maxima, buffer, layer.lanes);
  store_partials<kMaxima>(layers, layer, 0, column, buffer);
  const int lane = int(threadIdx.x) % layer.lanes;
#pragma unroll
  for (int i = 0; i < V; ++i)
    total.raise(i, buffer[i * kColumnThreads + lane], buffer[(V + i) * kColumnThreads + lane],
                scale);
  __syncthreads();
  across_pixels<false>(total.sums, buffer, layer.lanes);
  store_partials<3>(layers, layer, kMaxima, column, buffer);
}

// The rows of V neighbouring channels.
template <class A, int V>
struct ColumnStatistics {
  A value[kStatistics][V];

  __device__ __forceinline__ void load(const Layers& layers, const Layer& layer, int64_t row) {
#pragma unroll
    for (int k = 0; k < kStatistics; ++k) load_statistics<A, V>(layers, layer, k, row, value[k]);
  }
  __device__ __forceinline__ Statistics<A> operator[](int i) const {
    return {value[0][i], value[1][i], value[2][i], value[3][i], value[4][i], value[5][i]};
  }
};

template <class T, int V>
__global__ void __launch_bounds__(kColumnThreads, kColumnBlocks<T, V>)
    column_smoothed(Layers layers) {
  using A = accumulate_t<T>;
  using Mine = Column<T, V>;
  ANSM_FAST_SHARED(A, buffer, 3 * V * kColumnThreads);
  const Place place = place_of(layers, layers.first_block + blockIdx.x);
  const Layer& layer = layers.layer[place.layer];
  const Mine column(layer, place.block);
  const A scale = A(layers.inverse_temperature), alpha = A(layers.alpha);
  A sums[3][V];
#pragma unroll
  for (int i = 0; i < V; ++i) sums[0][i] = sums[1][i] = sums[2][i] = A(0);
  if (column.has_channel(layer)) {
    ColumnStatistics<A, V> rows;
    rows.load(layers, layer, column.row);
    for (int64_t pixel = column.begin; pixel < column.end; pixel += column.step) {
      A first[V], second[V];
      load<V>(at<T>(layer.first, column.at_pixel(pixel)), first);
      load<V>(at<T>(layer.second, column.at_pixel(pixel)), second);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const Statistics<A> row = rows[i];
        add_smoothed(exponential((first[i] - row.max_first) * scale) * row.inverse_first,
                     exponential((second[i] - row.max_second) * scale) * row.inverse_second, alpha,
                     sums[0][i], sums[1][i], sums[2][i]);
      }
    }
  }
  across_pixels<false>(sums, buffer, layer.lanes);
  store_partials<3>(layers, layer, kMaxima, column, buffer);
}

// From the last block to the first: what the pass before read last may still be in the cache.
template <class T, int V>
__global__ void __launch_bounds__(kColumnThreads, kColumnBlocks<T, V>)
    column_gradients(Layers layers) {
  using A = accumulate_t<T>;
  using Mine = Column<T, V>;
  const Place place = place_of(layers, layers.blocks - 1 - (layers.first_block + blockIdx.x));
  const Layer& layer = layers.layer[place.layer];
  const Mine column(layer, place.block);
  if (!column.has_channel(layer)) return;
  const Constants<A> c = constants_of<A>(layers, layer);
  ColumnStatistics<A, V> rows;
  rows.load(layers, layer, column.row);
  for (int64_t pixel = column.begin; pixel < column.end; pixel += Mine::kAtOnce * column.step) {
    A first[Mine::kAtOnce][V], second[Mine::kAtOnce][V];
    column.load(layer, pixel, first, second);
#pragma unroll
    for (int k = 0; k < Mine::kAtOnce; ++k) {
      if (pixel + k * column.step >= column.end) break;
      A of_first[V], of_second[V];
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const Statistics<A> row = rows[i];
        const A u = (first[k][i] - row.max_first) * c.scale;
        const A v = (second[k][i] - row.max_second) * c.scale;
        const A p = exponential(u) * row.inverse_first;
        of_second[i] = A(0);
        if (!layer.grad_second && !c.smoothed) {
          of_first[i] = c.factor * weighted(p, (u - v) - row.mean_first);
          continue;
        }
        const A q = exponential(v) * row.inverse_second;
        of_first[i] =
            c.factor * (c.smoothed ? smoothed_gradient_first(p, q, row.mean_first, c.alpha)
                                   : weighted(p, (u - v) - row.mean_first));
        of_second[i] =
            c.factor *
            (c.smoothed ? smoothed_gradient_second(p, q, row.mean_second, c.alpha) : q - p);
      }
      const int64_t place = column.at_pixel(pixel + k * column.step);
      if (layer.grad_first) store<V>(at<T>(layer.grad_first, place), of_first);
      if (layer.grad_second) store<V>(at<T>(layer.grad_second, place), of_second);
    }
  }
}

}  // namespace channelwise_kl
}  // namespace gpu
}  // namespace ansm_fast
