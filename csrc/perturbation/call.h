// What the perturbation ops of every device check and prepare.
#pragma once

#include "common/layout.h"
#include "perturbation/args.h"

namespace ansm_fast {

inline int64_t elements_of(const Tensor& tensor) {
  return tensor.size(0) > 0 ? tensor.numel() / tensor.size(0) : 0;
}

inline void check_images(const Tensor& image) {
  STD_TORCH_CHECK(image.dim() >= 2, "ansm_fast: images must have shape (B, ...)");
  check_floating(image, "image");
}

// The tensors of a projection in one order.
struct ProjectionCall {
  Order order;
  Tensor image, noise;

  ProjectionCall(const Tensor& given_image, const Tensor& given_noise)
      : order(checked_order(given_image, given_noise)),
        image(in_order(given_image, order)),
        noise(in_order(given_noise, order)) {}

  static Order checked_order(const Tensor& image, const Tensor& noise) {
    check_images(image);
    check_floating(noise, "perturbation");
    check_shape(noise, image, "perturbation");
    return order_of(image);
  }
};

struct ProjectionBackwardCall : ProjectionCall {
  Tensor grad, to_image, to_noise;
  perturbation::ProjectionGradient io;

  ProjectionBackwardCall(const Tensor& given_grad, const Tensor& given_image,
                         const Tensor& given_noise, bool grad_image, bool grad_noise)
      : ProjectionCall(given_image, given_noise),
        grad(checked_grad(given_grad, given_image, order)),
        to_image(grad_image ? place_for(image, order) : nothing(image)),
        to_noise(grad_noise ? place_for(noise, order) : nothing(noise)),
        io{field(grad), field(image), field(noise), {}, {}} {
    if (grad_image) io.grad_image = field(to_image);
    if (grad_noise) io.grad_perturbation = field(to_noise);
  }

  static Tensor checked_grad(const Tensor& given, const Tensor& image, Order order) {
    check_floating(given, "grad_output");
    check_shape(given, image, "grad_output");
    return in_order(given, order);
  }
};

// run(step) on tensors of one order. `adv` (and `momentum`) are written in place; where they have
// gaps, through one copy.
template <class Run>
void step_in_place(Tensor adv, std::optional<Tensor> momentum, const Tensor& given_grad,
                   const Tensor& given_image, double decay, const Run& run) {
  check_images(adv);
  check_floating(given_grad, "grad");
  check_floating(given_image, "image");
  check_shape(given_grad, adv, "grad");
  check_shape(given_image, adv, "image");
  const Order order = order_of(adv);
  Tensor to_adv = in_order(adv, order);
  const Tensor grad = in_order(given_grad, order), image = in_order(given_image, order);
  perturbation::Step step;
  step.adv = field(to_adv);
  step.grad = field(grad);
  step.image = field(image);
  step.decay = decay;
  Tensor to_momentum = momentum ? in_order(*momentum, order) : nothing(adv);
  if (momentum) {
    check_floating(*momentum, "momentum");
    check_shape(*momentum, adv, "momentum");
    step.momentum = field(to_momentum);
  }
  run(step);
  if (to_adv.data_ptr() != adv.data_ptr()) torch::stable::copy_(adv, to_adv);
  if (momentum && to_momentum.data_ptr() != momentum->data_ptr())
    torch::stable::copy_(*momentum, to_momentum);
}

}  // namespace ansm_fast
