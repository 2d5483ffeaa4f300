// What the launchers of csrc/*/cuda.cu share: the current device and stream, and registration.
//
// The same files are compiled by g++ with ANSM_FAST_SIMT as CPU ops of the namespace
// ansm_fast_simt (tools/simt), so that checks, allocation and launch are proved with the kernels.
#pragma once

// First torch, whose headers do not expect CUDA's words as macros.
#include "common/layout.h"

#include "common/cuda.cuh"

#ifdef ANSM_FAST_SIMT

#define ANSM_FAST_CUDA_OPS(m) STABLE_TORCH_LIBRARY_IMPL(ANSM_FAST_NAMESPACE, CPU, m)

namespace ansm_fast {

// What `field` announces while it lives is the memory that kernels may touch.
struct OnDeviceOf {
  explicit OnDeviceOf(const Tensor&) {}
  cudaStream_t stream() const { return nullptr; }

 private:
  simt::Operation operation_;
};

inline void check_launch() {}

}  // namespace ansm_fast

#else

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#define ANSM_FAST_CUDA_OPS(m) STABLE_TORCH_LIBRARY_IMPL(ansm_fast, CUDA, m)

namespace ansm_fast {

// Makes the tensor's device current for as long as it lives.
class OnDeviceOf {
 public:
  explicit OnDeviceOf(const Tensor& tensor)
      : index_(tensor.get_device_index()), guard_(tensor.get_device_index()) {}

  // PyTorch's current stream: launches are ordered with its own and can be captured.
  cudaStream_t stream() const {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(index_, &stream));
    return static_cast<cudaStream_t>(stream);
  }

 private:
  int32_t index_;
  torch::stable::accelerator::DeviceGuard guard_;
};

inline void check_launch() { STD_CUDA_KERNEL_LAUNCH_CHECK(); }

}  // namespace ansm_fast

#endif
