// The dialect of CUDA that kernels/ is written in, for g++: every thread of a launch runs on the
// CPU as a fiber (machine.h). What is not here, the kernels do without.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <tuple>
#include <type_traits>
#include <utility>

#include "simt/half.h"
#include "simt/machine.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

#define ANSM_FAST_LAUNCH(kernel, grid, block, stream, ...) \
  ::simt::launch(#kernel, (kernel), (grid), (block), (stream), __VA_ARGS__)

// A static variable is one for each call site and instantiation, for all threads: its address is
// what they find the same shared memory by.
#define ANSM_FAST_SHARED(type, name, count)                                           \
  static const ::simt::SharedSite name##_site{#name,        __FILE__, __LINE__,       \
                                              sizeof(type), (count),  alignof(type)}; \
  type* const name = static_cast<type*>(::simt::shared(name##_site))

using simt::dim3;
using simt::uint3;
using cudaStream_t = void*;

constexpr int warpSize = 32;

// The caller's line, for messages and to tell barriers apart.
#define SIMT_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(SIMT_HERE) { simt::block_barrier({file, line}); }

inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_HERE) {
  simt::collective(simt::Collective::kSync, mask, 0, 0, {file, line});
}

inline void __threadfence() { simt::fence(); }
inline void __threadfence_block() {}

namespace simt {

// The value that `lane` of the caller's warp holds; the caller's own where the lane is out of its
// group of `width` lanes.
template <class T>
inline T from_lane(unsigned mask, T value, int lane, bool within, Place place) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  bits = collective(Collective::kShuffle, mask, bits, within ? lane : this_lane(), place);
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace simt

template <class T>
inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, SIMT_HERE) {
  const int group = simt::this_lane() & ~(width - 1);
  return simt::from_lane(mask, value, group | (lane & (width - 1)), true, {file, line});
}

template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32, SIMT_HERE) {
  const int lane = simt::this_lane(), other = lane ^ flip;
  const bool within = (other & ~(width - 1)) <= (lane & ~(width - 1));
  return simt::from_lane(mask, value, other, within, {file, line});
}

template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, SIMT_HERE) {
  const int lane = simt::this_lane();
  const bool within = (lane & (width - 1)) + int(by) < width;
  return simt::from_lane(mask, value, lane + int(by), within, {file, line});
}

template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, SIMT_HERE) {
  const int lane = simt::this_lane();
  const bool within = (lane & (width - 1)) >= int(by);
  return simt::from_lane(mask, value, lane - int(by), within, {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_HERE) {
  return unsigned(
      simt::collective(simt::Collective::kBallot, mask, predicate != 0, 0, {file, line}));
}

inline int __any_sync(unsigned mask, int predicate, SIMT_HERE) {
  return simt::collective(simt::Collective::kAny, mask, predicate != 0, 0, {file, line}) != 0;
}

inline int __all_sync(unsigned mask, int predicate, SIMT_HERE) {
  return simt::collective(simt::Collective::kAll, mask, predicate != 0, 0, {file, line}) == mask;
}

#undef SIMT_HERE

// The access must be the caller's own, so that it counts for the caller's line.
template <class T>
__forceinline__ T __ldg(const T* source) {
  return *source;
}

inline int atomicAdd(int* target, int value) { return int(simt::atomic_add(target, value)); }
inline unsigned atomicAdd(unsigned* target, unsigned value) {
  return simt::atomic_add(target, value);
}

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __clz(int value) { return value == 0 ? 32 : __builtin_clz(unsigned(value)); }
