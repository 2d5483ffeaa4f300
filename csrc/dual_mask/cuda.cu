// BCE + Dice on CUDA: checks, allocation, launches. Arithmetic: kernels/dual_mask.
#include <tuple>
#include <vector>

#include "common/cuda_call.h"
#include "dual_mask/call.h"
#include "dual_mask/cuda.cuh"

namespace ansm_fast {
namespace {

using gpu::dual_mask::Batch;

gpu::dual_mask::Reduction reduction_of(int64_t number) {
  STD_TORCH_CHECK(number >= kNone && number <= kMean, "ansm_fast: no such reduction");
  return gpu::dual_mask::Reduction(number);
}

void check_devices(const Tensor& first, const OptionalTensor& second, const Tensor& mask,
                   const OptionalTensor& mask_orig, const OptionalTensor& target,
                   const OptionalTensor& target_orig) {
  check_device(mask, first, "mask");
  if (second) check_alike(*second, first, "logits_orig");
  if (mask_orig) check_device(*mask_orig, first, "mask_orig");
  if (target) check_device(*target, first, "bce_target");
  if (target_orig) check_device(*target_orig, first, "bce_target_orig");
}

Batch batch_of(const DualMaskCall& call, const DualMaskWeights& weights,
               const OptionalTensor& pos_weight, int64_t reduction, const Tensor& sums) {
  Batch batch;
  batch.samples = call.samples;
  batch.elements = call.elements;
  batch.pos_weight = sample_number(weights.positive, pos_weight, 1, call.logits[0], "pos_weight");
  batch.weights = weights;
  batch.reduction = reduction_of(reduction);
  batch.sums = numbers_of(sums);
  return batch;
}

std::tuple<Tensor, Tensor, Tensor> cuda_dual_mask(
    const Tensor& first, const OptionalTensor& second, const Tensor& mask,
    const OptionalTensor& mask_orig, const OptionalTensor& target,
    const OptionalTensor& target_orig, const OptionalTensor& pos_weight,
    const std::vector<double>& given_weights, std::optional<int64_t> ignore, int64_t reduction) {
  const OnDeviceOf device(first);
  check_devices(first, second, mask, mask_orig, target, target_orig);
  const DualMaskWeights weights(given_weights);
  const DualMaskCall call(first, second, mask, mask_orig, target, target_orig, ignore);
  auto [loss, components, sums] = call.places(reduction == kNone);
  const Batch batch = batch_of(call, weights, pos_weight, reduction, sums);
  const Tensor workspace =
      workspace_for(call.logits[0], gpu::dual_mask::workspace_size(call.in, batch));
  gpu::dual_mask::launch_forward(call.in, batch,
                                 {field(loss).data, field(components).data, numbers_of(workspace)},
                                 device.stream());
  check_launch();
  return {loss, components, sums};
}

std::tuple<Tensor, Tensor> cuda_dual_mask_backward(
    const Tensor& grad_output, const Tensor& given_sums, const Tensor& first,
    const OptionalTensor& second, const Tensor& mask, const OptionalTensor& mask_orig,
    const OptionalTensor& target, const OptionalTensor& target_orig,
    const OptionalTensor& pos_weight, const std::vector<double>& given_weights,
    std::optional<int64_t> ignore, int64_t reduction, bool grad_first, bool grad_second) {
  const OnDeviceOf device(first);
  check_devices(first, second, mask, mask_orig, target, target_orig);
  check_device(grad_output, first, "grad_output");
  check_device(given_sums, first, "sums");
  const DualMaskWeights weights(given_weights);
  const DualMaskCall call(first, second, mask, mask_orig, target, target_orig, ignore);
  const Tensor factors = without_gaps(grad_output);
  const Tensor sums = without_gaps(given_sums);
  call.check_backward(factors, sums);
  const Batch batch = batch_of(call, weights, pos_weight, reduction, sums);
  gpu::dual_mask::Gradient gradient;
  gradient.grad_output = field(factors).data;
  gradient.is_double = is_double(factors);
  gradient.each = factors.numel() != 1;
  const auto places = call.gradients(grad_first, grad_second, gradient.out);
  gpu::dual_mask::launch_backward(call.in, batch, gradient, device.stream());
  check_launch();
  return {places[0], places[1]};
}

}  // namespace
}  // namespace ansm_fast

ANSM_FAST_CUDA_OPS(m) {
  m.impl("dual_mask", TORCH_BOX(&ansm_fast::cuda_dual_mask));
  m.impl("dual_mask_backward", TORCH_BOX(&ansm_fast::cuda_dual_mask_backward));
}
