// CUDA kernels are one source for two compilers: nvcc, and g++ with ANSM_FAST_SIMT, where
// tools/simt runs every thread on the CPU. What the two do not spell alike has a macro here.
#pragma once

#include <cstdint>

#ifdef ANSM_FAST_SIMT
#include "simt/cuda.h"
#else
#include <cuda_runtime.h>

#define ANSM_FAST_LAUNCH(kernel, grid, block, stream, ...) \
  (kernel)<<<(grid), (block), 0, (stream)>>>(__VA_ARGS__)

// `count` elements of static shared memory, a constant.
#define ANSM_FAST_SHARED(type, name, count) __shared__ type name[count]
#endif

namespace ansm_fast {
namespace gpu {

constexpr int kWarp = 32;
constexpr unsigned kWholeWarp = 0xffffffffu;

// Blocks of one dimension of the grid; the launchers cut their work so that it fits.
constexpr int64_t kMaxBlocks = 2147483647;

inline int64_t blocks_for(int64_t items, int64_t per_block) {
  return (items + per_block - 1) / per_block;
}

}  // namespace gpu
}  // namespace ansm_fast
