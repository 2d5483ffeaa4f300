// A dense run of elements of some type: how host kernels name their inputs and outputs.
#pragma once

#include <cstdint>

namespace ansm_fast {

enum class ElementType : uint8_t { kFloat32, kFloat64, kFloat16, kBFloat16, kUInt8, kBool };

// Static: compiled for several instruction sets, of which the linker must not choose one.
static inline int64_t bytes_of(ElementType type) {
  switch (type) {
    case ElementType::kFloat64: return 8;
    case ElementType::kFloat32: return 4;
    case ElementType::kFloat16:
    case ElementType::kBFloat16: return 2;
    default: return 1;
  }
}

struct Field {
  void* data = nullptr;  // inputs are never written through
  ElementType type = ElementType::kFloat32;
};

}  // namespace ansm_fast
