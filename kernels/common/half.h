// float16 and bfloat16 as bit patterns, block by block, rounded to nearest even.
#pragma once

#include "isa.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {

ANSM_FAST_ELEMENT float float_from_bfloat16(uint16_t value) {
  return bits<float>(uint32_t(value) << 16);
}

ANSM_FAST_ELEMENT uint16_t bfloat16_from_float(float value) {
  const uint32_t raw = bits<uint32_t>(value);
  const uint32_t rounded = (raw + 0x7fffu + ((raw >> 16) & 1u)) >> 16;
  return uint16_t(value != value ? 0x7fc0u : rounded);
}

ANSM_FAST_ELEMENT float float_from_float16(uint16_t value) {
#if defined(__F16C__)
  return _cvtsh_ss(value);
#else
  const uint32_t sign = uint32_t(value & 0x8000u) << 16;
  const uint32_t magnitude = uint32_t(value & 0x7fffu) << 13;
  // Multiplying by 2^112 moves the exponent bias and makes subnormal numbers normal.
  const float finite = bits<float>(magnitude) * 5.192296858534828e33f;
  const uint32_t special = magnitude | 0x7f800000u;
  const uint32_t raw = magnitude >= 0x0f800000u ? special : bits<uint32_t>(finite);
  return bits<float>(raw | sign);
#endif
}

ANSM_FAST_ELEMENT uint16_t float16_from_float(float value) {
#if defined(__F16C__)
  return uint16_t(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT));
#else
  const uint32_t raw = bits<uint32_t>(value), sign = (raw >> 16) & 0x8000u;
  const uint32_t magnitude = raw & 0x7fffffffu;
  // Adding 0.5 leaves a subnormal half's bits, rounded, at the foot of the sum.
  const uint32_t tiny = bits<uint32_t>(bits<float>(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t normal = (magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
  uint32_t result = magnitude < 0x38800000u ? tiny : normal;
  result = magnitude >= 0x477ff000u ? 0x7c00u : result;
  result = magnitude > 0x7f800000u ? 0x7e00u : result;
  return uint16_t(result | sign);
#endif
}

template <class A>
inline void widen_bfloat16(const uint16_t* source, int64_t n, A* out) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = A(float_from_bfloat16(source[i]));
}

template <class A>
inline void narrow_bfloat16(const A* values, int64_t n, uint16_t* out) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = bfloat16_from_float(float(values[i]));
}

// Compilers do not vectorize the scalar conversion instruction: eight at a time by hand.
template <class A>
inline void widen_float16(const uint16_t* source, int64_t n, A* out) {
  int64_t i = 0;
#if defined(__F16C__)
  if constexpr (sizeof(A) == sizeof(float)) {
    for (const int64_t whole = n & ~int64_t(7); i < whole; i += 8) {
      const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i));
      _mm256_storeu_ps(out + i, _mm256_cvtph_ps(packed));
    }
  }
#endif
  for (; i < n; ++i) out[i] = A(float_from_float16(source[i]));
}

template <class A>
inline void narrow_float16(const A* values, int64_t n, uint16_t* out) {
  int64_t i = 0;
#if defined(__F16C__)
  if constexpr (sizeof(A) == sizeof(float)) {
    for (const int64_t whole = n & ~int64_t(7); i < whole; i += 8) {
      const __m128i packed =
          _mm256_cvtps_ph(_mm256_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), packed);
    }
  }
#endif
  for (; i < n; ++i) out[i] = float16_from_float(float(values[i]));
}

}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
