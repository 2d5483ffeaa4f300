// Blocks of any element type as blocks of the accumulation type: a pointer into the tensor where
// the types agree, else a converted copy small enough to stay in the first-level cache.
#pragma once

#include <cstring>
#include <type_traits>

#include "field.h"
#include "half.h"
#include "isa.h"
#include "stream.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {

constexpr int64_t kStagedBlock = 1024;

template <class S, class A>
inline const A* converted(const void* data, int64_t at, int64_t n, A* buffer) {
  const S* source = static_cast<const S*>(data) + at;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) buffer[i] = A(source[i]);
  return buffer;
}

template <class A>
inline const A* fetch(const Field& field, int64_t at, int64_t n, A* buffer) {
  const auto* halves = static_cast<const uint16_t*>(field.data) + at;
  switch (field.type) {
    case ElementType::kFloat32:
      if constexpr (std::is_same_v<A, float>) return static_cast<const float*>(field.data) + at;
      return converted<float>(field.data, at, n, buffer);
    case ElementType::kFloat64:
      if constexpr (std::is_same_v<A, double>) return static_cast<const double*>(field.data) + at;
      return converted<double>(field.data, at, n, buffer);
    case ElementType::kFloat16: widen_float16(halves, n, buffer); return buffer;
    case ElementType::kBFloat16: widen_bfloat16(halves, n, buffer); return buffer;
    case ElementType::kUInt8:
    case ElementType::kBool: return converted<uint8_t>(field.data, at, n, buffer);
  }
  return buffer;
}

// Where a block of results is to be computed; `commit` brings it to the field.
template <class A>
inline A* destination(const Field& field, int64_t at, A* buffer) {
  constexpr auto kOwn = std::is_same_v<A, float> ? ElementType::kFloat32 : ElementType::kFloat64;
  return field.type == kOwn ? static_cast<A*>(field.data) + at : buffer;
}

template <class A>
inline void commit(const Field& field, int64_t at, int64_t n, const A* values) {
  auto* halves = static_cast<uint16_t*>(field.data) + at;
  if (field.type == ElementType::kFloat16) narrow_float16(values, n, halves);
  if (field.type == ElementType::kBFloat16) narrow_bfloat16(values, n, halves);
}

// The same for results that shall not stay in the caches: they are always computed in a buffer.
template <class A>
inline void commit_streamed(const Field& field, int64_t at, int64_t n, const A* values) {
  constexpr auto kOwn = std::is_same_v<A, float> ? ElementType::kFloat32 : ElementType::kFloat64;
  if (field.type == kOwn)
    stream_bytes(values, n * int64_t(sizeof(A)), static_cast<A*>(field.data) + at);
  else
    commit(field, at, n, values);
}

}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
