// Masks of any type as the device's kernels take them (on the host: masks.h), and the weight of
// their positive part.
#pragma once

#include "mask_values.h"
#include "tiles.cuh"

namespace ansm_fast {
namespace gpu {

// A negative weight would make of the loss what training takes for a gain.
template <class A>
__device__ __forceinline__ A pos_weight_of(const SampleNumber& pos_weight) {
  const A weight = A(pos_weight[0]);
  return weight >= A(0) ? weight : A(NAN);
}

// The value of a mask or target as the host kernels have it (masks.h): in [0, 1], kIgnored or NaN.
// `ignore`: the ignored value, or NaN, which equals nothing.
template <class A>
__device__ __forceinline__ A checked(A value, A ignore, bool is_label) {
  const A inside = fmin(fmax(value, A(0)), A(1));
  const A soft = fabs(value - A(0.5)) <= A(0.5 + kSlack) ? inside : A(NAN);
  const A label = fmin(value, A(1));
  return value == ignore ? A(kIgnored) : is_label ? label : soft;
}

template <class M, class A, int V>
__device__ __forceinline__ void load_as(const void* data, const Tile<V>& tile, A ignore,
                                        A (&out)[V]) {
  const Vector<M, V> loaded = tile.template load<M>(data);
#pragma unroll
  for (int i = 0; i < V; ++i)
    out[i] = checked(to<A>(loaded.value[i]), ignore, std::is_same_v<M, uint8_t>);
}

// All threads of a launch take the same case.
template <class A, int V>
__device__ __forceinline__ void load_any(const Field& field, const Tile<V>& tile, A ignore,
                                         A (&out)[V]) {
  switch (field.type) {
    case ElementType::kFloat32: load_as<float>(field.data, tile, ignore, out); break;
    case ElementType::kFloat64: load_as<double>(field.data, tile, ignore, out); break;
    case ElementType::kFloat16: load_as<Half>(field.data, tile, ignore, out); break;
    case ElementType::kBFloat16: load_as<BFloat16>(field.data, tile, ignore, out); break;
    default: load_as<uint8_t>(field.data, tile, ignore, out);  // bool as well
  }
}

}  // namespace gpu
}  // namespace ansm_fast
