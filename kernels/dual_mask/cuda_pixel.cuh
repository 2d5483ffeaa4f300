// One pixel's arithmetic, as the host kernels have it (cpu.h), masks of any type, and what both
// passes take.
#pragma once

#include "../common/tiles.cuh"
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

// exp(-|z|)
__device__ __forceinline__ float decay_of(float z) { return expf(-fabsf(z)); }
__device__ __forceinline__ double decay_of(double z) { return exp(-fabs(z)); }

__device__ __forceinline__ float log_of_one_plus(float e) { return log1pf(e); }
__device__ __forceinline__ double log_of_one_plus(double e) { return log1p(e); }

__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) {
  return fma(a, b, c);
}

// sigma(z) and 1 - sigma(z): neither tail is ever the difference of close numbers.
template <class A>
struct Logistic {
  A probability;
  A complement;
};

template <class A>
__device__ __forceinline__ Logistic<A> logistic(A logit, A decay) {
  const A larger = A(1) / (A(1) + decay), smaller = decay * larger;
  return {logit >= A(0) ? larger : smaller, logit >= A(0) ? smaller : larger};
}

template <class M, class A, int V>
__device__ __forceinline__ void load_as(const void* data, const Tile<V>& tile, A (&out)[V]) {
  const Vector<M, V> loaded = tile.template load<M>(data);
#pragma unroll
  for (int i = 0; i < V; ++i) out[i] = to<A>(loaded.value[i]);
}

// All threads of a launch take the same case.
template <class A, int V>
__device__ __forceinline__ void load_any(const Field& field, const Tile<V>& tile, A (&out)[V]) {
  switch (field.type) {
    case ElementType::kFloat32: load_as<float>(field.data, tile, out); break;
    case ElementType::kFloat64: load_as<double>(field.data, tile, out); break;
    case ElementType::kFloat16: load_as<Half>(field.data, tile, out); break;
    case ElementType::kBFloat16: load_as<BFloat16>(field.data, tile, out); break;
    default: load_as<uint8_t>(field.data, tile, out);  // bool as well
  }
}

// The mask and target of the branch where it has its own; else those of the branch before stay.
template <class A, int V>
__device__ __forceinline__ void load_targets(const Inputs& in, int branch, const Tile<V>& tile,
                                             A (&mask)[V], A (&target)[V]) {
  if (in.mask[branch].data) load_any(in.mask[branch], tile, mask);
  if (in.target[branch].data) {
    load_any(in.target[branch], tile, target);
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) target[i] = mask[i];
  }
}

}  // namespace dual_mask
}  // namespace gpu
}  // namespace ansm_fast
