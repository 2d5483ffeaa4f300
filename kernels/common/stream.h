// Stores past the caches: a result that is larger than they are would otherwise be read from memory
// before it is written, and drive the inputs out.
#pragma once

#include <cstring>

#include "isa.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace ansm_fast {
namespace ANSM_FAST_ISA {

// A copy to `out`, which no other thread reads before `finish_streams`.
inline void stream_bytes(const void* values, int64_t bytes, void* out) {
  auto* target = static_cast<char*>(out);
  const auto* source = static_cast<const char*>(values);
#if defined(__AVX512F__)
  constexpr int64_t kStore = 64;
#elif defined(__AVX2__)
  constexpr int64_t kStore = 32;
#elif defined(__SSE2__)
  constexpr int64_t kStore = 16;
#else
  constexpr int64_t kStore = 1;
#endif
  const int64_t gap = (kStore - int64_t(reinterpret_cast<uintptr_t>(target) % kStore)) % kStore;
  int64_t at = gap < bytes ? gap : bytes;
  std::memcpy(target, source, size_t(at));
#if defined(__SSE2__)
  for (; at + kStore <= bytes; at += kStore) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(target + at), _mm512_loadu_si512(source + at));
#elif defined(__AVX2__)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(target + at),
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + at)));
#else
    _mm_stream_si128(reinterpret_cast<__m128i*>(target + at),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + at)));
#endif
  }
#endif
  std::memcpy(target + at, source + at, size_t(bytes - at));
}

// Orders what was streamed before everything that follows.
inline void finish_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
