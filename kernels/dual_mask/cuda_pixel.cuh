// What both passes take, and the mask and target of a branch.
#pragma once

#include "../common/logistic.cuh"
#include "../common/masks.cuh"
#include "terms.h"

namespace ansm_fast {
namespace gpu {
namespace dual_mask {

using namespace ansm_fast::dual_mask;

enum class Reduction : uint8_t { kNone, kSum, kMean };

// What both passes take beside `in`, whose pos_weight is not used: the device reads its own.
struct Batch {
  int64_t samples = 0;
  int64_t elements = 0;  // of one sample
  SampleNumber pos_weight;
  Weights weights;
  Reduction reduction = Reduction::kMean;
  double* sums = nullptr;  // [branch][sample][kSums]
};

template <class A>
__device__ __forceinline__ A ignored_value(const Inputs& in) {
  return in.has_ignore ? A(in.ignore) : A(NAN);
}

// Enough for the memory's latency; without a number the compiler spills registers for more.
template <int V>
constexpr int kBlocksPerProcessor = V == 4 ? 4 : 3;

// A branch's mask and target: where it has none, the mask of the branch before stays, and the
// target is the mask.
template <class A, int V>
__device__ __forceinline__ void load_targets(const Field& own_mask, const Field& own_target,
                                             const Tile<V>& tile, A ignore, A (&mask)[V],
                                             A (&target)[V]) {
  if (own_mask.data) load_any(own_mask, tile, ignore, mask);
  if (own_target.data) {
    load_any(own_target, tile, A(NAN), target);
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) target[i] = mask[i];
  }
}

}  // namespace dual_mask
}  // namespace gpu
}  // namespace ansm_fast
