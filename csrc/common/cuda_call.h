// What the CUDA ops check beside the host's checks, and what they bring to device memory.
#pragma once

// First torch, whose headers do not expect CUDA's words as macros.
#include "common/cuda_device.h"

#include "common/tiles.cuh"

namespace ansm_fast {

inline void check_device(const Tensor& tensor, const Tensor& other, const char* name) {
  STD_TORCH_CHECK(
      tensor.is_cpu() == other.is_cpu() && tensor.get_device_index() == other.get_device_index(),
      "ansm_fast: ", name, " is on another device");
}

inline void check_alike(const Tensor& tensor, const Tensor& other, const char* name) {
  check_device(tensor, other, name);
  STD_TORCH_CHECK(tensor.scalar_type() == other.scalar_type(), "ansm_fast: ", name,
                  " differs in dtype");
}

// As PerSample (tensor.h), but never read by the host.
inline gpu::SampleNumber sample_number(double value, const OptionalTensor& values, int64_t samples,
                                       const Tensor& like, const char* name) {
  if (!values) return {value, nullptr, 0};
  check_device(*values, like, name);
  STD_TORCH_CHECK(is_double(*values) && values->is_contiguous() &&
                      (values->numel() == 1 || values->numel() == samples),
                  "ansm_fast: ", name, " must hold one float64 for each sample");
  return {value, static_cast<const double*>(field(*values).data), values->numel() == 1 ? 0 : 1};
}

inline Tensor workspace_for(const Tensor& like, int64_t numbers) {
  return new_tensor(like, std::vector<int64_t>{numbers}, ScalarType::Double);
}

inline double* numbers_of(const Tensor& workspace) {
  return workspace.numel() > 0 ? static_cast<double*>(field(workspace).data) : nullptr;
}

}  // namespace ansm_fast
