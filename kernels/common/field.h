// A dense run of elements of some type: how host kernels name their inputs and outputs.
#pragma once

#include <cstdint>

namespace ansm_fast {

enum class ElementType : uint8_t { kFloat32, kFloat64, kFloat16, kBFloat16, kUInt8, kBool };

struct Field {
  void* data = nullptr;  // inputs are never written through
  ElementType type = ElementType::kFloat32;
};

}  // namespace ansm_fast
