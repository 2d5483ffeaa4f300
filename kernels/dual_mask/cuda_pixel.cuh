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

// A negative weight would make of the loss what training takes for a gain.
template <class A>
__device__ __forceinline__ A pos_weight_of(const SampleNumber& pos_weight) {
  const A weight = A(pos_weight[0]);
  return weight >= A(0) ? weight : A(NAN);
}

template <class A>
__device__ __forceinline__ A ignored_value(const Inputs& in) {
  return in.has_ignore ? A(in.ignore) : A(NAN);
}

// Enough for the memory's latency; without a number the compiler spills registers for more.
template <int V>
constexpr int kBlocksPerProcessor = V == 4 ? 4 : 3;

// exp(-|z|)
__device__ __forceinline__ float decay_of(float z) { return expf(-fabsf(z)); }
__device__ __forceinline__ double decay_of(double z) { return exp(-fabs(z)); }

__device__ __forceinline__ float log_of_one_plus(float e) { return log1pf(e); }
__device__ __forceinline__ double log_of_one_plus(double e) { return log1p(e); }

__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) {
  return fma(a, b, c);
}

// 1 / x for x in [1, 2], within 1 ulp, without the branches and the call of a division that has to
// serve every x. A parabola (1 - x r is Chebyshev's T3(2x - 3) / 99), whose error e becomes e^3.
template <class A>
__device__ __forceinline__ A cubed_error(A x, A r) {
  const A e = multiply_add(-x, r, A(1));
  return multiply_add(r, multiply_add(e, e, e), r);
}

template <class A>
__device__ __forceinline__ A parabola_of_inverse(A x) {
  return multiply_add(multiply_add(A(32.0 / 99), x, A(-144.0 / 99)), x, A(210.0 / 99));
}

__device__ __forceinline__ float inverse(float x) {
  const float r = cubed_error(x, parabola_of_inverse(x));  // within 1.1e-6
  return multiply_add(r, multiply_add(-x, r, 1.0f), r);
}

__device__ __forceinline__ double inverse(double x) {
  return cubed_error(x, cubed_error(x, parabola_of_inverse(x)));
}

// sigma(z) and 1 - sigma(z): neither tail is ever the difference of close numbers.
template <class A>
struct Logistic {
  A probability;
  A complement;
};

template <class A>
__device__ __forceinline__ Logistic<A> logistic(A logit, A decay) {
  const A larger = inverse(A(1) + decay), smaller = decay * larger;
  return {logit >= A(0) ? larger : smaller, logit >= A(0) ? smaller : larger};
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
