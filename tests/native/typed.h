// Runs of any element type whose numbers the tests know as doubles, by conversions of their own.
#pragma once

#include <cstring>

#include "check.h"
#include "common/field.h"

using ansm_fast::ElementType;
using ansm_fast::Field;

// A 16-bit format by its definition: bits of the fraction, exponent of the least normal number.
struct Format {
  int fraction;
  int least;
  unsigned infinity() const { return 0x7fffu >> fraction << fraction; }
};
inline constexpr Format kFloat16Format{10, -14}, kBFloat16Format{7, -126};

inline double widen(unsigned raw, Format format) {
  const unsigned magnitude = raw & 0x7fffu, one = 1u << format.fraction;
  const int exponent = int(magnitude >> format.fraction), fraction = int(magnitude & (one - 1));
  double value = exponent == 0 ? std::ldexp(fraction, format.least - format.fraction)
                               : std::ldexp(fraction + int(one),
                                            format.least + exponent - 1 - format.fraction);
  if (magnitude == format.infinity()) value = INFINITY;
  if (magnitude > format.infinity()) return NAN;
  return raw & 0x8000u ? -value : value;
}

// To nearest, ties to even.
inline unsigned narrow(double value, Format format) {
  const unsigned sign = std::signbit(value) ? 0x8000u : 0u;
  if (std::isnan(value)) return format.infinity() | 1u << (format.fraction - 1);
  if (std::isinf(value)) return sign | format.infinity();
  const int own = value == 0 ? format.least : std::ilogb(value);
  const int exponent = own < format.least ? format.least : own;
  const double steps = std::nearbyint(std::ldexp(std::fabs(value), format.fraction - exponent));
  const double raw = std::ldexp(exponent - format.least, format.fraction) + steps;
  return sign | (raw < format.infinity() ? unsigned(raw) : format.infinity());
}

inline size_t width(ElementType type) {
  switch (type) {
    case ElementType::kFloat64: return 8;
    case ElementType::kFloat32: return 4;
    case ElementType::kFloat16:
    case ElementType::kBFloat16: return 2;
    default: return 1;
  }
}

inline constexpr ElementType kFloating[] = {ElementType::kFloat32, ElementType::kFloat64,
                                            ElementType::kFloat16, ElementType::kBFloat16};

// Half the distance of neighbours, relative to a number: what one rounding may cost.
inline double rounding(ElementType type) {
  switch (type) {
    case ElementType::kFloat64: return std::ldexp(1, -53);
    case ElementType::kFloat16: return std::ldexp(1, -11);
    case ElementType::kBFloat16: return std::ldexp(1, -8);
    default: return std::ldexp(1, -24);
  }
}

// The same of the arithmetic behind a type: double for float64, else float.
inline double arithmetic(ElementType type) {
  return rounding(type == ElementType::kFloat64 ? type : ElementType::kFloat32);
}

// Runs `function` with a value of the type that the kernels compute in.
template <class Function>
void in_arithmetic_of(ElementType type, const Function& function) {
  type == ElementType::kFloat64 ? function(double()) : function(float());
}

class Typed {
 public:
  Typed(ElementType type, const Numbers& values)
      : type_(type), bytes_(values.size() * width(type)) {
    for (size_t i = 0; i < values.size(); ++i) put(i, values[i]);
  }

  Field field() { return {bytes_.data(), type_}; }

  // The numbers as the type holds them.
  Numbers values() const {
    Numbers result(bytes_.size() / width(type_));
    for (size_t i = 0; i < result.size(); ++i) result[i] = get(i);
    return result;
  }

 private:
  template <class T>
  void store(size_t i, T value) {
    std::memcpy(&bytes_[i * sizeof(T)], &value, sizeof(T));
  }
  template <class T>
  T load(size_t i) const {
    T value;
    std::memcpy(&value, &bytes_[i * sizeof(T)], sizeof(T));
    return value;
  }
  void put(size_t i, double value) {
    switch (type_) {
      case ElementType::kFloat64: return store(i, value);
      case ElementType::kFloat32: return store(i, float(value));
      case ElementType::kFloat16: return store(i, uint16_t(narrow(value, kFloat16Format)));
      case ElementType::kBFloat16: return store(i, uint16_t(narrow(value, kBFloat16Format)));
      default: return store(i, uint8_t(value));
    }
  }
  double get(size_t i) const {
    switch (type_) {
      case ElementType::kFloat64: return load<double>(i);
      case ElementType::kFloat32: return load<float>(i);
      case ElementType::kFloat16: return widen(load<uint16_t>(i), kFloat16Format);
      case ElementType::kBFloat16: return widen(load<uint16_t>(i), kBFloat16Format);
      default: return load<uint8_t>(i);
    }
  }

  ElementType type_;
  std::vector<unsigned char> bytes_;  // exactly as long as the run, so that sanitizers see its end
};
