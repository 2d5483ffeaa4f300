// Rows too long for one block: chunks of constant length give partial results, which `combine`
// brings together, and the gradient is a second pass. Nothing depends on the device.
#pragma once

#include "cuda_held.cuh"

namespace ansm_fast {
namespace gpu {
namespace channelwise_kl {

constexpr int kSplitThreads = 256;
template <class T>
constexpr int kSplitCount = sizeof(accumulate_t<T>) == 4 ? 16 : 8;
template <class T>
constexpr int64_t kChunk = int64_t(kSplitThreads) * kSplitCount<T>;

struct Chunk {
  int64_t row, chunk;
  int64_t begin;  // in the maps
  int64_t count;
};

template <class T>
__device__ __forceinline__ Chunk chunk_of(const Layer& layer, int64_t block) {
  const int64_t row = block / layer.chunks, chunk = block - row * layer.chunks;
  const int64_t start = chunk * kChunk<T>, left = layer.pixels - start;
  return {row, chunk, row * layer.pixels + start, left < kChunk<T> ? left : kChunk<T>};
}

// Part of a chunk from `start` on.
template <class T, int kCount>
__device__ __forceinline__ void load_part(const Layer& layer, const Chunk& chunk, int64_t start,
                                          Held<T, kCount>& held) {
  constexpr int64_t kMost = int64_t(kSplitThreads) * kCount;
  const int64_t left = chunk.count - start;
  held.thread = int(threadIdx.x);
  held.threads = kSplitThreads;
  held.count = int(left < kMost ? left : kMost);
  held.aligned = layer.aligned;
  held.load(at<T>(layer.first, chunk.begin + start), at<T>(layer.second, chunk.begin + start));
}

// What the passes after the first take at once: they need nothing of the rest of the chunk.
template <class T>
constexpr int kPartCount = kSplitCount<T> / 2;

template <class T>
__global__ void __launch_bounds__(kSplitThreads) split_statistics(Layers layers) {
  using A = accumulate_t<T>;
  ANSM_FAST_SHARED(A, buffer, kPartials * kWarp);
  const Place where = place_of(layers, layers.first_block + blockIdx.x);
  const Layer& layer = layers.layer[where.layer];
  const Chunk chunk = chunk_of<T>(layer, where.block);
  Held<T, kSplitCount<T>> held;
  load_part(layer, chunk, 0, held);
  A max_first, max_second, sums[3];
  held.maxima(max_first, max_second);
  block_maxima(max_first, max_second, buffer);
  held.shift(max_first, max_second, A(layers.inverse_temperature), true, sums);
  block_sums(sums, buffer + kMaxima * kWarp);
  if (held.thread == 0) {
    const int64_t place = planar_place(layer, chunk.row, chunk.chunk);
    *partial<A>(layers, 0, place) = max_first;
    *partial<A>(layers, 1, place) = max_second;
#pragma unroll
    for (int i = 0; i < 3; ++i) *partial<A>(layers, kMaxima + i, place) = sums[i];
  }
}

template <class T>
__global__ void __launch_bounds__(kSplitThreads) split_smoothed(Layers layers) {
  using A = accumulate_t<T>;
  ANSM_FAST_SHARED(A, buffer, 3 * kWarp);
  const Place where = place_of(layers, layers.first_block + blockIdx.x);
  const Layer& layer = layers.layer[where.layer];
  const Chunk chunk = chunk_of<T>(layer, where.block);
  const Statistics<A> row = statistics_of<A>(layers, layer, chunk.row);
  A sums[3] = {A(0), A(0), A(0)}, unused[3];
#pragma unroll 1
  for (int64_t start = 0; start < chunk.count; start += kSplitThreads * kPartCount<T>) {
    Held<T, kPartCount<T>> held;
    load_part(layer, chunk, start, held);
    held.shift(row.max_first, row.max_second, A(layers.inverse_temperature), false, unused);
    held.smooth(row, A(layers.alpha), sums);
  }
  block_sums(sums, buffer);
  if (threadIdx.x == 0) {
    const int64_t place = planar_place(layer, chunk.row, chunk.chunk);
#pragma unroll
    for (int i = 0; i < 3; ++i) *partial<A>(layers, kMaxima + i, place) = sums[i];
  }
}

// From the last block to the first: what the pass before read last may still be in the cache.
template <class T>
__global__ void __launch_bounds__(kSplitThreads) split_gradients(Layers layers) {
  using A = accumulate_t<T>;
  const Place where = place_of(layers, layers.blocks - 1 - (layers.first_block + blockIdx.x));
  const Layer& layer = layers.layer[where.layer];
  const Chunk chunk = chunk_of<T>(layer, where.block);
  const Statistics<A> row = statistics_of<A>(layers, layer, chunk.row);
  const Constants<A> k = constants_of<A>(layers, layer);
  const bool kept = !layer.grad_second && !k.smoothed;
#pragma unroll 1
  for (int64_t start = 0; start < chunk.count; start += kSplitThreads * kPartCount<T>) {
    Held<T, kPartCount<T>> held;
    load_part(layer, chunk, start, held);
    A unused[3];
    held.shift(row.max_first, row.max_second, k.scale, kept, unused);
    held.gradients(row, k, kept, at<T>(layer.grad_first, chunk.begin + start),
                   at<T>(layer.grad_second, chunk.begin + start));
  }
}

}  // namespace channelwise_kl
}  // namespace gpu
}  // namespace ansm_fast
