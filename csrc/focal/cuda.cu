// The focal loss on CUDA: checks, allocation, launches. The arithmetic: kernels/focal.
#include <tuple>
#include <vector>

#include "common/cuda_call.h"
#include "focal/call.h"
#include "focal/cuda.cuh"

namespace ansm_fast {
namespace {

using gpu::focal::Batch;

Batch batch_of(const FocalCall& call, const OptionalTensor& pos_weight, const Tensor& count) {
  Batch batch;
  batch.pixels = call.pixels();
  batch.pos_weight = sample_number(call.in.pos_weight, pos_weight, 1, call.logits, "pos_weight");
  batch.reduction = call.reduction;
  batch.count = numbers_of(count);
  return batch;
}

std::tuple<Tensor, Tensor> cuda_focal(const Tensor& logits, const Tensor& mask,
                                      const OptionalTensor& pos_weight,
                                      const std::vector<double>& options,
                                      std::optional<int64_t> ignore, int64_t reduction,
                                      ScalarType dtype) {
  const OnDeviceOf device(logits);
  check_device(mask, logits, "mask");
  const FocalCall call(logits, mask, options, ignore, reduction);
  const Tensor loss = call.place_for_loss(dtype), count = call.place_for_count();
  const Batch batch = batch_of(call, pos_weight, count);
  const Tensor workspace = workspace_for(logits, gpu::focal::workspace_size(batch));
  gpu::focal::launch_forward(call.in, batch, {field(loss), numbers_of(workspace)}, device.stream());
  check_launch();
  return {loss, count};
}

Tensor cuda_focal_backward(const Tensor& grad_output, const Tensor& count, const Tensor& logits,
                           const Tensor& mask, const OptionalTensor& pos_weight,
                           const std::vector<double>& options, std::optional<int64_t> ignore,
                           int64_t reduction) {
  const OnDeviceOf device(logits);
  check_device(mask, logits, "mask");
  check_device(grad_output, logits, "grad_output");
  check_device(count, logits, "count");
  const FocalCall call(logits, mask, options, ignore, reduction);
  const Tensor factors = call.factors_of(grad_output, count);
  const Tensor gradient = place_for(call.logits, call.order);
  const Batch batch = batch_of(call, pos_weight, count);
  gpu::focal::launch_backward(call.in, batch, {field(factors), call.each(), field(gradient)},
                              device.stream());
  check_launch();
  return gradient;
}

}  // namespace
}  // namespace ansm_fast

ANSM_FAST_CUDA_OPS(m) {
  m.impl("focal", TORCH_BOX(&ansm_fast::cuda_focal));
  m.impl("focal_backward", TORCH_BOX(&ansm_fast::cuda_focal_backward));
}
