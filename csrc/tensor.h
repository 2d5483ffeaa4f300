// From stable-ABI tensors to the fields that the torch-free kernels take.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include "common/field.h"

namespace ansm_fast {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline ElementType element_type(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float: return ElementType::kFloat32;
    case ScalarType::Double: return ElementType::kFloat64;
    case ScalarType::Half: return ElementType::kFloat16;
    case ScalarType::BFloat16: return ElementType::kBFloat16;
    case ScalarType::Byte: return ElementType::kUInt8;
    case ScalarType::Bool: return ElementType::kBool;
    default: STD_TORCH_CHECK(false, "ansm_fast: unsupported dtype");
  }
}

inline Field field(const Tensor& tensor) { return {tensor.data_ptr(), element_type(tensor)}; }

inline bool is_double(const Tensor& tensor) { return tensor.scalar_type() == ScalarType::Double; }

inline void check_same(const Tensor& tensor, const Tensor& other, const char* name) {
  bool same = tensor.dim() == other.dim() && tensor.scalar_type() == other.scalar_type();
  for (int64_t d = 0; same && d < tensor.dim(); ++d) same = tensor.size(d) == other.size(d);
  STD_TORCH_CHECK(same, "ansm_fast: ", name, " differs in shape or dtype");
}

// Elements that make a thread worth starting.
constexpr int64_t kGrain = 32768;

inline int64_t grain(int64_t elements_per_item) {
  const int64_t items = kGrain / (elements_per_item > 0 ? elements_per_item : 1);
  return items > 0 ? items : 1;
}

}  // namespace ansm_fast
