// float16 as bit patterns, rounded to nearest even: what the device's conversions do.
#pragma once

#include <stdint.h>

namespace simt {

inline float float_from_half(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000u) << 16;
  const uint32_t magnitude = uint32_t(half & 0x7fffu) << 13;
  uint32_t raw;
  if (magnitude >= 0x0f800000u) {
    raw = magnitude | 0x7f800000u;
  } else {
    // Multiplying by 2^112 moves the exponent bias and makes subnormal numbers normal.
    float finite;
    __builtin_memcpy(&finite, &magnitude, sizeof(finite));
    finite *= 0x1p112f;
    __builtin_memcpy(&raw, &finite, sizeof(raw));
  }
  raw |= sign;
  float result;
  __builtin_memcpy(&result, &raw, sizeof(result));
  return result;
}

inline uint16_t half_from_float(float value) {
  uint32_t raw;
  __builtin_memcpy(&raw, &value, sizeof(raw));
  const uint32_t sign = (raw >> 16) & 0x8000u, magnitude = raw & 0x7fffffffu;
  uint32_t result;
  if (magnitude > 0x7f800000u) {
    // The device's conversion gives this NaN, whatever came in.
    return 0x7fffu;
  } else if (magnitude >= 0x477ff000u) {
    result = 0x7c00u;
  } else if (magnitude < 0x38800000u) {
    // Adding 0.5 leaves a subnormal half's bits, rounded, at the foot of the sum.
    float finite;
    __builtin_memcpy(&finite, &magnitude, sizeof(finite));
    finite += 0.5f;
    __builtin_memcpy(&result, &finite, sizeof(result));
    result -= 0x3f000000u;
  } else {
    result = (magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  return uint16_t(result | sign);
}

}  // namespace simt
