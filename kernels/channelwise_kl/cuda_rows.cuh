// Rows that fit in registers: both maps are read once, and the gradient is made where they are.
#pragma once

#include "cuda_held.cuh"

namespace ansm_fast {
namespace gpu {
namespace channelwise_kl {

constexpr int kRowThreads = 256;
constexpr int kRowsOfBlock = kRowThreads / kWarp;

// Threads of a block that holds a row, as far as their registers go.
template <class T>
constexpr int kMaxBlockThreads = sizeof(accumulate_t<T>) == 4 ? 1024 : 512;

// A warp for each row.
template <class T, int kCount>
__global__ void __launch_bounds__(kRowThreads) rows_warp(Layers layers) {
  using A = accumulate_t<T>;
  const Place place = place_of(layers, layers.first_block + blockIdx.x);
  const Layer& layer = layers.layer[place.layer];
  const int64_t row = place.block * kRowsOfBlock + threadIdx.x / kWarp;
  if (row >= layer.rows()) return;
  const int64_t begin = row * layer.pixels;
  const Constants<A> k = constants_of<A>(layers, layer);
  const bool kept = !layer.grad_second && !k.smoothed;

  Held<T, kCount> held;
  held.thread = int(threadIdx.x) % kWarp;
  held.threads = kWarp;
  held.count = int(layer.pixels);
  held.aligned = layer.aligned;
  held.load(at<T>(layer.first, begin), at<T>(layer.second, begin));

  Statistics<A> statistics;
  held.maxima(statistics.max_first, statistics.max_second);
  statistics.max_first = warp_max(statistics.max_first);
  statistics.max_second = warp_max(statistics.max_second);
  A sums[3];
  held.shift(statistics.max_first, statistics.max_second, k.scale, kept, sums);
#pragma unroll
  for (int i = 0; i < 3; ++i) sums[i] = warp_sum(sums[i]);
  A kl = finish(sums, statistics);
  if (k.smoothed) {
    sums[0] = sums[1] = sums[2] = A(0);
    held.smooth(statistics, k.alpha, sums);
#pragma unroll
    for (int i = 0; i < 3; ++i) sums[i] = warp_sum(sums[i]);
    kl = sums[0];
    statistics.mean_first = sums[1];
    statistics.mean_second = sums[2];
  }
  if (held.thread == 0) layers.kl[layer.first_row + row] = double(kl);
  if (layer.grad_first || layer.grad_second)
    held.gradients(statistics, k, kept, at<T>(layer.grad_first, begin),
                   at<T>(layer.grad_second, begin));
}

// A block for each row, with as many threads as the row needs.
template <class T, int kCount>
__global__ void __launch_bounds__(kMaxBlockThreads<T>) rows_block(Layers layers) {
  using A = accumulate_t<T>;
  ANSM_FAST_SHARED(A, maxima_buffer, kMaxima * kWarp);
  ANSM_FAST_SHARED(A, buffer, 3 * kWarp);
  ANSM_FAST_SHARED(A, shared, 4);
  const Place place = place_of(layers, layers.first_block + blockIdx.x);
  const Layer& layer = layers.layer[place.layer];
  const int64_t row = place.block, begin = row * layer.pixels;
  const Constants<A> k = constants_of<A>(layers, layer);
  const bool kept = !layer.grad_second && !k.smoothed;

  Held<T, kCount> held;
  held.thread = int(threadIdx.x);
  held.threads = int(blockDim.x);
  held.count = int(layer.pixels);
  held.aligned = layer.aligned;
  held.load(at<T>(layer.first, begin), at<T>(layer.second, begin));

  Statistics<A> statistics;
  held.maxima(statistics.max_first, statistics.max_second);
  block_maxima(statistics.max_first, statistics.max_second, maxima_buffer);
  A sums[3];
  held.shift(statistics.max_first, statistics.max_second, k.scale, kept, sums);
  block_sums(sums, buffer);
  if (held.thread == 0) {
    const A kl = finish(sums, statistics);
    if (!k.smoothed) layers.kl[layer.first_row + row] = double(kl);
    shared[0] = statistics.inverse_first;
    shared[1] = statistics.inverse_second;
    shared[2] = statistics.mean_first;
  }
  __syncthreads();
  statistics.inverse_first = shared[0];
  statistics.inverse_second = shared[1];
  statistics.mean_first = shared[2];
  if (k.smoothed) {
    sums[0] = sums[1] = sums[2] = A(0);
    held.smooth(statistics, k.alpha, sums);
    block_sums(sums, buffer);
    if (held.thread == 0) {
      layers.kl[layer.first_row + row] = double(sums[0]);
      shared[2] = sums[1];
      shared[3] = sums[2];
    }
    __syncthreads();
    statistics.mean_first = shared[2];
    statistics.mean_second = shared[3];
  }
  if (layer.grad_first || layer.grad_second)
    held.gradients(statistics, k, kept, at<T>(layer.grad_first, begin),
                   at<T>(layer.grad_second, begin));
}

}  // namespace channelwise_kl
}  // namespace gpu
}  // namespace ansm_fast
