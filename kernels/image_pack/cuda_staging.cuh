// Bytes of 3-byte pixels through shared memory, so that global memory sees accesses of 16 bytes
// wherever the bytes start.
#pragma once

#include "../common/tiles.cuh"

namespace ansm_fast {
namespace gpu {
namespace image_pack {

struct alignas(kVectorBytes) Sixteen {
  uint32_t words[kVectorBytes / 4];
};

// How far an address is past a multiple of 16: the staged bytes begin as far past the shared
// memory's start, so that both sides of a copy are aligned alike.
__device__ __forceinline__ int shift_of(const void* pointer) {
  return int(reinterpret_cast<uintptr_t>(pointer) % kVectorBytes);
}

// Copies bytes [shift, shift + count) of two runs that start at multiples of 16: vectors where all
// sixteen belong to the bytes, single ones at the ends. All threads of the block take part.
__device__ __forceinline__ void copy_staged(uint8_t* to, const uint8_t* from, int shift,
                                            int count) {
  const int end = shift + count;
  const int vectors = (end + kVectorBytes - 1) / kVectorBytes;
#pragma unroll 1  // twice at most
  for (int v = int(threadIdx.x); v < vectors; v += kTileThreads) {
    const int at = v * kVectorBytes;
    if (at >= shift && at + kVectorBytes <= end)
      *reinterpret_cast<Sixteen*>(to + at) = *reinterpret_cast<const Sixteen*>(from + at);
  }
  // The ragged vectors at both ends, a thread for each of their bytes.
  const int first = int(threadIdx.x), last = end / kVectorBytes * kVectorBytes + first;
  if (shift > 0 && first < kVectorBytes && first >= shift && first < end) to[first] = from[first];
  const bool own = last >= kVectorBytes || shift == 0;  // not the first vector again
  if (first < kVectorBytes && own && last < end) to[last] = from[last];
}

}  // namespace image_pack
}  // namespace gpu
}  // namespace ansm_fast
