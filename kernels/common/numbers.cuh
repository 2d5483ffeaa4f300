// Element types of the CUDA kernels: float, double, and the two half types as bit patterns, so that
// the same source compiles without CUDA's headers. Rounded to nearest even, accumulated in A.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cuda.cuh"
#include "field.h"

#ifndef ANSM_FAST_SIMT
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace ansm_fast {
namespace gpu {

struct Half {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

// What sums of T are kept in.
template <class T>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
};
template <class T>
using accumulate_t = typename Accumulate<T>::type;

template <class T>
struct TypeOf;
template <>
struct TypeOf<float> {
  static constexpr ElementType value = ElementType::kFloat32;
};
template <>
struct TypeOf<double> {
  static constexpr ElementType value = ElementType::kFloat64;
};
template <>
struct TypeOf<Half> {
  static constexpr ElementType value = ElementType::kFloat16;
};
template <>
struct TypeOf<BFloat16> {
  static constexpr ElementType value = ElementType::kBFloat16;
};

__host__ __device__ __forceinline__ uint32_t bits_of(float value) {
  uint32_t result;
  memcpy(&result, &value, sizeof(result));
  return result;
}

__host__ __device__ __forceinline__ float float_of(uint32_t bits) {
  float result;
  memcpy(&result, &bits, sizeof(result));
  return result;
}

#ifdef ANSM_FAST_SIMT
// The arithmetic of the host kernels (half.h), which the device's instructions agree with.
inline float widen_half(uint16_t bits) { return simt::float_from_half(bits); }
inline uint16_t narrow_half(float value) { return simt::half_from_float(value); }
#else
__device__ __forceinline__ float widen_half(uint16_t bits) {
  return __half2float(__ushort_as_half(bits));
}
__device__ __forceinline__ uint16_t narrow_half(float value) {
  return __half_as_ushort(__float2half_rn(value));
}
#endif

__device__ __forceinline__ uint16_t narrow_bfloat16(float value) {
  const uint32_t raw = bits_of(value);
  const uint32_t rounded = (raw + 0x7fffu + ((raw >> 16) & 1u)) >> 16;
  return uint16_t(value != value ? 0x7fc0u : rounded);
}

// to<A>(x): a stored element as a number of the accumulation type.
template <class A>
__device__ __forceinline__ A to(float value) {
  return A(value);
}
template <class A>
__device__ __forceinline__ A to(double value) {
  return A(value);
}
template <class A>
__device__ __forceinline__ A to(Half value) {
  return A(widen_half(value.bits));
}
template <class A>
__device__ __forceinline__ A to(BFloat16 value) {
  return A(float_of(uint32_t(value.bits) << 16));
}
template <class A>
__device__ __forceinline__ A to(uint8_t value) {
  return A(value);
}

// from<T>(x): a number as a stored element.
template <class T>
struct From {
  template <class A>
  static __device__ __forceinline__ T call(A value) {
    return T(value);
  }
};
template <>
struct From<Half> {
  template <class A>
  static __device__ __forceinline__ Half call(A value) {
    return {narrow_half(float(value))};
  }
};
template <>
struct From<BFloat16> {
  template <class A>
  static __device__ __forceinline__ BFloat16 call(A value) {
    return {narrow_bfloat16(float(value))};
  }
};
template <class T, class A>
__device__ __forceinline__ T from(A value) {
  return From<T>::call(value);
}

}  // namespace gpu
}  // namespace ansm_fast
