// Reductions over a warp and a block in a fixed order: the same input gives the same bits.
#pragma once

#include "numbers.cuh"

namespace ansm_fast {
namespace gpu {

template <class A>
__device__ __forceinline__ A warp_sum(A value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(kWholeWarp, value, offset);
  return value;
}

// The larger, and the other one where one is NaN.
__device__ __forceinline__ float larger(float a, float b) { return fmaxf(a, b); }
__device__ __forceinline__ double larger(double a, double b) { return fmax(a, b); }

template <class A>
__device__ __forceinline__ A warp_max(A value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    value = larger(value, __shfl_xor_sync(kWholeWarp, value, offset));
  return value;
}

// Sums of `kCount` values over a block of `kThreads`; thread 0 has the result. `buffer` is shared
// memory of kCount * kThreads / kWarp elements, free for other use after the next barrier.
template <int kThreads, int kCount, class A>
__device__ __forceinline__ void block_sum(A (&values)[kCount], A* buffer) {
  constexpr int kWarps = kThreads / kWarp;
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const A sum = warp_sum(values[k]);
    if (lane == 0) buffer[k * kWarps + warp] = sum;
  }
  __syncthreads();
  if (warp == 0) {
#pragma unroll
    for (int k = 0; k < kCount; ++k)
      values[k] = warp_sum(lane < kWarps ? buffer[k * kWarps + lane] : A(0));
  }
}

}  // namespace gpu
}  // namespace ansm_fast
