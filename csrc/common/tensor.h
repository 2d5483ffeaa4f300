// From stable-ABI tensors to the fields that the torch-free kernels take.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <vector>

#include "common/few.h"
#include "common/field.h"

#ifdef ANSM_FAST_SIMT
#include "simt/machine.h"
#endif

namespace ansm_fast {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Extents = torch::headeronly::IntHeaderOnlyArrayRef;  // sizes or strides

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

#ifdef ANSM_FAST_SIMT
// Tells the harness which memory a kernel may touch.
inline void announce(const Tensor& tensor) {
  if (tensor.numel() == 0) return;
  const int64_t element = bytes_of(element_type(tensor));
  int64_t extent = 1;
  for (int64_t d = 0; d < tensor.dim(); ++d) extent += (tensor.size(d) - 1) * tensor.stride(d);
  simt::announce(tensor.data_ptr(), size_t(extent * element), size_t(element));
}
#endif

inline Field field(const Tensor& tensor) {
#ifdef ANSM_FAST_SIMT
  announce(tensor);
#endif
  return {tensor.data_ptr(), element_type(tensor)};
}

inline bool is_double(const Tensor& tensor) { return tensor.scalar_type() == ScalarType::Double; }

inline bool is_floating(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
    case ScalarType::Double:
    case ScalarType::Half:
    case ScalarType::BFloat16: return true;
    default: return false;
  }
}

inline void check_floating(const Tensor& tensor, const char* name) {
  STD_TORCH_CHECK(is_floating(tensor), "ansm_fast: ", name,
                  " must be float32, float16, bfloat16 or float64");
}

inline void check_shape(const Tensor& tensor, const Tensor& other, const char* name) {
  STD_TORCH_CHECK(tensor.sizes() == other.sizes(), "ansm_fast: ", name, " differs in shape");
}

// A new tensor on the device of `like`. Made by torch's C function: torch::stable::new_empty goes
// through the dispatcher, which takes longer than the kernel of a tiny call.
inline Tensor new_tensor(const Tensor& like, Extents sizes, Extents strides, ScalarType type) {
  using torch::stable::detail::from;
  const auto dtype = torch::stable::detail::to<int32_t>(from(type));
  int32_t device_type = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  AtenTensorHandle made = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(int64_t(sizes.size()), sizes.data(),
                                                  strides.data(), dtype, device_type,
                                                  like.get_device_index(), &made));
  return Tensor(made);
}

// The same without gaps.
inline Tensor new_tensor(const Tensor& like, Extents sizes, ScalarType type) {
  Few<int64_t> strides(sizes.size());
  int64_t step = 1;
  for (size_t d = sizes.size(); d-- > 0;) {
    strides[d] = step;
    step *= sizes[d] > 0 ? sizes[d] : 1;
  }
  return new_tensor(like, sizes, Extents(strides.data(), strides.size()), type);
}

// The tensor itself where it has no gaps, else a copy.
inline Tensor without_gaps(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

// A number for all samples, or one for each.
class PerSample {
 public:
  PerSample(double value, const OptionalTensor& values, int64_t samples, const char* name)
      : value_(value) {
    if (!values) return;
    STD_TORCH_CHECK(is_double(*values) && values->is_contiguous() &&
                        (values->numel() == 1 || values->numel() == samples),
                    "ansm_fast: ", name, " must hold one float64 for each sample");
    values_ = static_cast<const double*>(values->data_ptr());
    step_ = values->numel() == 1 ? 0 : 1;
  }
  double operator[](int64_t sample) const { return values_ ? values_[sample * step_] : value_; }

 private:
  double value_;
  const double* values_ = nullptr;
  int64_t step_ = 0;
};

inline double element(const Tensor& tensor, int64_t index) {
  return is_double(tensor) ? static_cast<const double*>(tensor.data_ptr())[index]
                           : double(static_cast<const float*>(tensor.data_ptr())[index]);
}

inline void set_element(const Tensor& tensor, int64_t index, double value) {
  if (is_double(tensor))
    static_cast<double*>(tensor.data_ptr())[index] = value;
  else
    static_cast<float*>(tensor.data_ptr())[index] = float(value);
}

}  // namespace ansm_fast
