// Kernels with one mistake each, and the same without it: what the harness is tested with.
#pragma once

#include "common/reduce.cuh"
#include "common/vector.cuh"

namespace examples {

using namespace ansm_fast::gpu;

constexpr int kThreads = 256;

__device__ inline int64_t index() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }

template <int V>
__global__ void copy(const float* in, float* out, int64_t n) {
  const int64_t i = index() * V;
  if (i >= n) return;
  float values[V];
  load<V>(in + i, values);
  store<V>(out + i, values);
}

__global__ void strided(const float* in, float* out, int64_t n, int step) {
  if (index() < n) out[index()] = in[index() * step];
}

__global__ void at_offset(const float* in, float* out, int64_t n, int64_t load, int64_t store) {
  if (index() < n) out[index() + store] = in[index() + load];
}

__global__ void misaligned(const float* in, float* out) {
  float values[4];
  load<4>(in + 1 + 4 * index(), values);
  out[index()] = values[0];
}

template <bool kBarrier>
__global__ void reverse(const float* in, float* out) {
  ANSM_FAST_SHARED(float, room, kThreads);
  room[threadIdx.x] = in[index()];
  if (kBarrier) __syncthreads();
  out[index()] = room[kThreads - 1 - threadIdx.x];
}

// Without the second barrier a warp that runs ahead writes what others have yet to read.
template <bool kBarrier>
__global__ void rotate(const float* in, float* out, int rounds) {
  ANSM_FAST_SHARED(float, room, kThreads);
  float value = in[index()];
  for (int i = 0; i < rounds; ++i) {
    room[threadIdx.x] = value;
    __syncthreads();
    value = room[(threadIdx.x + 1) % kThreads];
    if (kBarrier) __syncthreads();
  }
  out[index()] = value;
}

template <bool kOrdered>
__global__ void swap_in_warp(const float* in, float* out) {
  ANSM_FAST_SHARED(float, room, kThreads);
  float value = in[index()];
  room[threadIdx.x] = value;
  if (kOrdered)
    __syncwarp();
  else
    value = __shfl_xor_sync(kWholeWarp, value, 0);  // waits, but orders no memory
  out[index()] = room[threadIdx.x ^ 1];
}

__global__ void sums(const float* in, float* out) {
  ANSM_FAST_SHARED(float, room, kThreads / kWarp);
  float total[1] = {in[index()]};
  block_sum<kThreads>(total, room);
  if (threadIdx.x == 0) out[blockIdx.x] = total[0];
}

__global__ void one_word(const float* in, float* out, unsigned thread) {
  if (threadIdx.x == thread || threadIdx.x == 0) out[0] = in[0];
}

__global__ void shift_in_place(float* out, int64_t n) {
  if (index() + 1 < n) out[index()] = out[index() + 1];
}

// The block that comes last adds up what all have written.
template <bool kFence>
__global__ void last_block(const float* in, float* out, unsigned* counter, float* partials) {
  ANSM_FAST_SHARED(float, room, kThreads / kWarp);
  ANSM_FAST_SHARED(bool, is_last, 1);
  float total[1] = {in[index()]};
  block_sum<kThreads>(total, room);
  if (threadIdx.x == 0) {
    partials[blockIdx.x] = total[0];
    if (kFence) __threadfence();
    is_last[0] = atomicAdd(counter, 1u) == gridDim.x - 1;
    if (kFence) __threadfence();
  }
  __syncthreads();
  if (!is_last[0] || threadIdx.x != 0) return;
  float all = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) all += partials[i];
  out[0] = all;
  *counter = 0;
}

__global__ void shared_offset(const float* in, float* out, int load, int store) {
  ANSM_FAST_SHARED(float, room, kThreads);
  room[int(threadIdx.x) + store] = in[index()];
  __syncthreads();
  out[index()] = room[int(threadIdx.x) + load];
}

__global__ void half_initialized(const float* in, float* out) {
  ANSM_FAST_SHARED(float, room, kThreads);
  if (threadIdx.x < kThreads / 2) room[threadIdx.x] = in[index()];
  __syncthreads();
  out[index()] = room[threadIdx.x];
}

// Neighbors in a word, in shared and in global memory.
__global__ void bytes(const uint8_t* in, uint8_t* out) {
  ANSM_FAST_SHARED(float, room, kThreads / 4);
  uint8_t* const own = reinterpret_cast<uint8_t*>(room);
  own[threadIdx.x] = in[index()];
  __syncthreads();
  out[index()] = own[kThreads - 1 - threadIdx.x];
}

__global__ void too_much_shared(float* out) {
  ANSM_FAST_SHARED(float, room, 13 * 1024);
  room[threadIdx.x] = 1;
  out[index()] = room[threadIdx.x];
}

__global__ void early_exit(float* out) {
  if (threadIdx.x >= 64) return;
  __syncthreads();
  out[index()] = 1;
}

__global__ void two_barriers(float* out) {
  if (threadIdx.x < 64)
    __syncthreads();
  else
    __syncthreads();
  out[index()] = 1;
}

__global__ void exited_lane(const float* in, float* out) {
  if (threadIdx.x % kWarp == 31) return;
  out[index()] = __shfl_xor_sync(kWholeWarp, in[index()], 1);
}

__global__ void disagreeing_masks(const float* in, float* out) {
  const unsigned mask = threadIdx.x % 2 ? kWholeWarp : 0x7fffffffu;
  out[index()] = __shfl_xor_sync(mask, in[index()], 1);
}

__global__ void other_intrinsics(float* out) {
  const bool odd = threadIdx.x % 2 != 0;
  out[index()] = odd ? float(__any_sync(kWholeWarp, 1)) : float(__all_sync(kWholeWarp, 1));
}

// Ten results for each thread.
__global__ void intrinsics(const float* in, float* out, int64_t n) {
  const float value = in[index()];
  const int lane = int(threadIdx.x) % kWarp;
  const unsigned quad = 0xfu << (lane / 4 * 4);
  const float results[10] = {
      __shfl_sync(kWholeWarp, value, 5),
      __shfl_sync(kWholeWarp, value, 3, 8),
      __shfl_xor_sync(kWholeWarp, value, 4),
      __shfl_down_sync(kWholeWarp, value, 3),
      __shfl_up_sync(kWholeWarp, value, 2, 16),
      __shfl_xor_sync(quad, value, 2),
      float(__ballot_sync(kWholeWarp, value > 0) & 0xffffu),
      float(__ballot_sync(quad, value > 0) >> (lane / 4 * 4)),
      float(__any_sync(quad, value > 0)),
      float(__all_sync(quad, value > 0)),
  };
  for (int i = 0; i < 10; ++i) out[i * n + index()] = results[i];
}

__global__ void halves(const float* in, float* widened, Half* narrowed) {
  widened[index()] = to<float>(Half{uint16_t(index())});
  narrowed[index()] = from<Half>(in[index()]);
}

}  // namespace examples
