// Masks and targets as the host kernels take them: numbers in [0, 1], one that says "ignored", and
// NaN for what is none of these, which no sum hides.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "isa.h"
#include "mask_values.h"
#include "staging.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {
// The number that stands for "ignored" in blocks of this type: labels become numbers of their own.
// Without one it is NaN, which equals nothing.
template <class A>
inline A ignored_number(const Field& field, double ignore) {
  const bool labels = field.type == ElementType::kUInt8 || field.type == ElementType::kBool;
  return A(labels ? kIgnored : ignore);
}

template <class A>
inline const A* fetch_labels(const uint8_t* labels, int64_t n, double ignore, A* buffer) {
  if (ignore >= 0 && ignore <= 255) {
    const int ignored = int(ignore);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const int label = labels[i];
      buffer[i] = A(label == ignored ? int(kIgnored) : label < 1 ? label : 1);
    }
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) buffer[i] = A(labels[i] < 1 ? labels[i] : uint8_t(1));
  }
  return buffer;
}

// Labels as 0, 1 or kIgnored; soft masks as they are, for `correct` to look at.
template <class A>
inline const A* fetch_mask(const Field& field, int64_t at, int64_t n, double ignore, A* buffer) {
  if (field.type == ElementType::kUInt8 || field.type == ElementType::kBool)
    return fetch_labels(static_cast<const uint8_t*>(field.data) + at, n, ignore, buffer);
  return fetch(field, at, n, buffer);
}

template <class Bits>
ANSM_FAST_ELEMENT Bits larger(Bits a, Bits b) {
  return a < b ? b : a;
}

// Among the bits of numbers those of [0, 1] are the least: the largest tells, NaN included. It
// takes -0 for a number outside, which `checked` does not. Four at a time, as each waits for the
// last.
template <class A, bool kIgnore>
inline bool any_outside(const A* values, int64_t n, A ignore) {
  using Bits = std::conditional_t<sizeof(A) == 4, uint32_t, uint64_t>;
  const auto bits_at = [&](int64_t i) {
    return bits<Bits>(kIgnore && values[i] == ignore ? A(0) : values[i]);
  };
  Bits first = 0, second = 0, third = 0, fourth = 0;
  const int64_t quarter = n / 4;
#pragma omp simd reduction(max : first, second, third, fourth)
  for (int64_t i = 0; i < quarter; ++i) {
    first = larger(first, bits_at(i));
    second = larger(second, bits_at(i + quarter));
    third = larger(third, bits_at(i + 2 * quarter));
    fourth = larger(fourth, bits_at(i + 3 * quarter));
  }
  for (int64_t i = 4 * quarter; i < n; ++i) first = larger(first, bits_at(i));
  return larger(larger(first, second), larger(third, fourth)) > bits<Bits>(A(1));
}

template <class A>
ANSM_FAST_ELEMENT A checked(A value, A ignore) {
  const A inside = value < A(0) ? A(0) : value > A(1) ? A(1) : value;
  const A sound = value >= A(-kSlack) && value <= A(1 + kSlack) ? inside : A(NAN);
  return value == ignore ? value : sound;
}

// Whether a block had to be rewritten, so that what was made of it must be made again. The look
// comes after the arithmetic, which waits for the memory while it computes: a look at a block that
// isn't in the first-level cache yet would only wait.
template <class A>
inline bool correct(const Field& field, int64_t n, double ignore, const A*& values, A* buffer) {
  if (field.type == ElementType::kUInt8 || field.type == ElementType::kBool) return false;
  const A ignored = A(ignore);
  const bool outside = ignored == ignored ? any_outside<A, true>(values, n, ignored)
                                          : any_outside<A, false>(values, n, ignored);
  if (!outside) return false;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) buffer[i] = checked(values[i], ignored);
  values = buffer;
  return true;
}

}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
