// Clamp-and-project and the attack steps on CUDA: checks, allocation, launches. Arithmetic:
// kernels/perturbation.
#include <tuple>

#include "common/cuda_call.h"
#include "perturbation/call.h"
#include "perturbation/cuda.cuh"

namespace ansm_fast {
namespace {

using namespace perturbation;
using gpu::perturbation::Batch;

Batch batch_of(const Tensor& image, bool l2, double min, double max) {
  Batch batch;
  batch.samples = image.size(0);
  batch.elements = elements_of(image);
  batch.norm = l2 ? Norm::kL2 : Norm::kLinf;
  batch.min = min;
  batch.max = max;
  return batch;
}

Tensor cuda_clamp_project(const Tensor& given_image, const Tensor& given_noise, double eps,
                          const OptionalTensor& sample_eps, bool l2, double min, double max) {
  const OnDeviceOf device(given_image);
  check_alike(given_noise, given_image, "perturbation");
  const ProjectionCall call(given_image, given_noise);
  Tensor out = place_for(call.image, call.order);
  Batch batch = batch_of(call.image, l2, min, max);
  batch.eps = sample_number(eps, sample_eps, batch.samples, call.image, "eps");
  const Tensor workspace =
      workspace_for(call.image, gpu::perturbation::projection_workspace_size(batch));
  batch.workspace = numbers_of(workspace);
  gpu::perturbation::launch_clamp_project({field(call.image), field(call.noise), field(out)}, batch,
                                          device.stream());
  check_launch();
  return out;
}

std::tuple<Tensor, Tensor> cuda_clamp_project_backward(const Tensor& given_grad,
                                                       const Tensor& given_image,
                                                       const Tensor& given_noise, double eps,
                                                       const OptionalTensor& sample_eps, bool l2,
                                                       double min, double max, bool grad_image,
                                                       bool grad_noise) {
  const OnDeviceOf device(given_image);
  check_alike(given_noise, given_image, "perturbation");
  check_alike(given_grad, given_image, "grad_output");
  const ProjectionBackwardCall call(given_grad, given_image, given_noise, grad_image, grad_noise);
  Batch batch = batch_of(call.image, l2, min, max);
  batch.eps = sample_number(eps, sample_eps, batch.samples, call.image, "eps");
  const Tensor workspace =
      workspace_for(call.image, gpu::perturbation::projection_workspace_size(batch));
  batch.workspace = numbers_of(workspace);
  gpu::perturbation::launch_clamp_project_backward(call.io, batch, device.stream());
  check_launch();
  return {call.to_image, call.to_noise};
}

void take_step(const Tensor& adv, const std::optional<Tensor>& momentum, const Tensor& grad,
               const Tensor& image, double alpha, const OptionalTensor& sample_alpha, double eps,
               const OptionalTensor& sample_eps, double decay, bool l2, double min, double max) {
  const OnDeviceOf device(adv);
  check_alike(grad, adv, "grad");
  check_alike(image, adv, "image");
  if (momentum) check_alike(*momentum, adv, "momentum");
  step_in_place(adv, momentum, grad, image, decay, [&](const Step& step) {
    Batch batch = batch_of(adv, l2, min, max);
    batch.alpha = sample_number(alpha, sample_alpha, batch.samples, adv, "alpha");
    batch.eps = sample_number(eps, sample_eps, batch.samples, adv, "eps");
    const Tensor workspace =
        workspace_for(adv, gpu::perturbation::step_workspace_size(batch, momentum.has_value()));
    batch.workspace = numbers_of(workspace);
    gpu::perturbation::launch_step(step, batch, device.stream());
    check_launch();
  });
}

void cuda_pgd_step_(const Tensor& adv, const Tensor& grad, const Tensor& image, double alpha,
                    const OptionalTensor& sample_alpha, double eps,
                    const OptionalTensor& sample_eps, bool l2, double min, double max) {
  take_step(adv, std::nullopt, grad, image, alpha, sample_alpha, eps, sample_eps, 0, l2, min, max);
}

void cuda_momentum_step_(const Tensor& adv, const Tensor& momentum, const Tensor& grad,
                         const Tensor& image, double alpha, const OptionalTensor& sample_alpha,
                         double eps, const OptionalTensor& sample_eps, double decay, bool l2,
                         double min, double max) {
  take_step(adv, momentum, grad, image, alpha, sample_alpha, eps, sample_eps, decay, l2, min, max);
}

}  // namespace
}  // namespace ansm_fast

ANSM_FAST_CUDA_OPS(m) {
  m.impl("clamp_project", TORCH_BOX(&ansm_fast::cuda_clamp_project));
  m.impl("clamp_project_backward", TORCH_BOX(&ansm_fast::cuda_clamp_project_backward));
  m.impl("pgd_step_", TORCH_BOX(&ansm_fast::cuda_pgd_step_));
  m.impl("momentum_step_", TORCH_BOX(&ansm_fast::cuda_momentum_step_));
}
