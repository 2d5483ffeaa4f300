// The losses of all pixels, or their sum and number: of every piece, then of all pieces.
#pragma once

#include "cuda_pixel.cuh"

namespace ansm_fast {
namespace gpu {
namespace focal {

constexpr int kSums = 2;  // of losses, and of pixels that are not ignored

template <class A, int V>
__device__ __forceinline__ void losses_of(const A (&logits)[V], const A (&mask)[V],
                                          const Options<A>& options, A (&losses)[V]) {
  A miss[V];
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const Pixel<A> pixel = pixel_of(logits[i], mask[i], options.pos_weight);
    const A weight = multiply_add(options.alpha_slope, mask[i], options.alpha_base);
    losses[i] = weight * pixel.cross_entropy;
    miss[i] = pixel.miss;
  }
  if (options.modulation == Modulation::kOne) return;
#pragma unroll
  for (int i = 0; i < V; ++i) losses[i] *= miss[i] * power_below(miss[i], options);
}

template <class T, int V>
__global__ void __launch_bounds__(kTileThreads, kBlocksPerProcessor<V>)
    forward_kernel(Inputs in, SampleNumber pos_weight, Samples samples, int64_t piece, Field each,
                   double* partials) {
  using A = accumulate_t<T>;
  ANSM_FAST_SHARED(double, buffer, (kSums * kBufferPerSum));
  const Options<A> options(in, pos_weight);
  const int64_t begin = int64_t(blockIdx.x) * piece, stop = begin + piece;
  const int64_t end = stop < samples.elements ? stop : samples.elements;
  double totals[kSums] = {};
  A sums[kSums] = {};
#pragma unroll 1
  for (int64_t at = begin; at < end; at += Tile<V>::kElements) {
    const Tile<V> tile(samples, 0, at);
    const Vector<T, V> stored = tile.template load<T>(in.logits.data);
    A logits[V], mask[V], losses[V];
    load_any(in.mask, tile, options.ignored, mask);
#pragma unroll
    for (int i = 0; i < V; ++i) logits[i] = to<A>(stored.value[i]);
    losses_of(logits, mask, options, losses);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const bool keep = tile.has(i) && !(in.has_ignore && mask[i] == A(kIgnored));
      losses[i] = keep ? losses[i] : A(0);
      sums[0] += losses[i];
      sums[1] += keep ? A(1) : A(0);
    }
    if (each.data) {
      store_numbers<T>(each, tile, losses);
    } else if ((at + Tile<V>::kElements - begin) % kPieceElements == 0 ||
               at + Tile<V>::kElements >= end) {
#pragma unroll
      for (int k = 0; k < kSums; ++k) {
        totals[k] += double(sums[k]);
        sums[k] = A(0);
      }
    }
  }
  if (each.data) return;
  block_sum<kTileThreads>(totals, buffer);
  if (threadIdx.x != 0) return;
#pragma unroll
  for (int k = 0; k < kSums; ++k) partials[kSums * int64_t(blockIdx.x) + k] = totals[k];
}

// One block.
template <class A>
__global__ void __launch_bounds__(kTileThreads)
    finish_kernel(const double* partials, int64_t pieces, Reduction reduction, A* loss,
                  double* count) {
  ANSM_FAST_SHARED(double, buffer, (kSums * kBufferPerSum));
  double totals[kSums] = {};
  for (int64_t piece = threadIdx.x; piece < pieces; piece += kTileThreads) {
#pragma unroll
    for (int k = 0; k < kSums; ++k) totals[k] += partials[kSums * piece + k];
  }
  block_sum<kTileThreads>(totals, buffer);
  if (threadIdx.x != 0) return;
  loss[0] = A(loss_of({totals[0], totals[1]}, reduction));
  count[0] = totals[1];
}

}  // namespace focal
}  // namespace gpu
}  // namespace ansm_fast
