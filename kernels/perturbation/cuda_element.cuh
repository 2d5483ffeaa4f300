// One element's arithmetic, as the host kernels have it (cpu.h).
#pragma once

#include "../common/numbers.cuh"
#include "args.h"

namespace ansm_fast {
namespace gpu {
namespace perturbation {

using namespace ansm_fast::perturbation;

template <class A>
struct Range {
  A min, max;
};

template <class A>
__device__ __forceinline__ A clamped(A value, A low, A high) {  // NaN stays NaN
  value = value < low ? low : value;
  return value > high ? high : value;
}

template <class A>
__device__ __forceinline__ A sign_times(A value, A size) {  // 0 for NaN, as torch.sign
  return (value > A(0) ? size : A(0)) - (value < A(0) ? size : A(0));
}

__device__ __forceinline__ float magnitude(float value) { return fabsf(value); }
__device__ __forceinline__ double magnitude(double value) { return fabs(value); }

__device__ __forceinline__ uint16_t toward(uint16_t raw, float value, float goal) {
  const uint16_t across = value > goal ? 0x8001u : 0x0001u;
  const uint16_t step = (value > goal) == (value > 0.0f) ? 0xffffu : 0x0001u;
  return value == 0.0f ? across : uint16_t(raw + step);
}

// The result as it is stored. A half type's rounding to nearest can leave the budget: one step back
// towards the image if so. `budget` is eps (linf), or negative for "no further than the exact
// result" (l2).
template <class T, class A>
__device__ __forceinline__ T stored_within(A value, A x, const Range<A>& range, A budget) {
  T result = from<T>(value);
  if constexpr (sizeof(T) == sizeof(uint16_t)) {
    const float stored = to<float>(result), distance = fabsf(stored - x);
    const float allowed = budget < A(0) ? fabsf(value - x) : budget;
    const bool inside = x >= range.min && x <= range.max;
    if (inside && distance > allowed) result.bits = toward(result.bits, stored, x);
  }
  return result;
}

template <class A>
__device__ __forceinline__ A projected(A value, bool linf, A eps, A shrink) {
  return linf ? clamped(value, -eps, eps) : value * shrink;
}

}  // namespace perturbation
}  // namespace gpu
}  // namespace ansm_fast
