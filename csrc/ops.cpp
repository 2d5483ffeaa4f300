// The schema of every op. Each op's own file registers its CPU implementation.
//
// A `sample_*` or `*_tensor` argument takes the place of the number before it: one float64 for all
// samples or one for each. Gradients that are not asked for are empty tensors.
#include <torch/csrc/stable/library.h>

#ifndef ANSM_FAST_NAMESPACE
#define ANSM_FAST_NAMESPACE ansm_fast
#endif

STABLE_TORCH_LIBRARY(ANSM_FAST_NAMESPACE, m) {
  // (loss, gradient of input, gradient of target) of the sum over rows divided as `reduction` says:
  // 0 none, 1 sum, 2 batchmean, 3 channelmean, 4 mean. The loss is float32, or float64. Gradients
  // are multiplied by `grad_output`, one number, before they are rounded; with it no loss is made.
  m.def(
      "channelwise_kl(Tensor input, Tensor target, float temperature, float alpha, "
      "bool input_first, int reduction, bool grad_input, bool grad_target, "
      "Tensor? grad_output=None) -> (Tensor, Tensor, Tensor)");
  // The same for a list of pairs, which may differ in shape and order: results for each. Unless the
  // reduction is none, all are divided by the number of pairs: the losses add up to their mean, and
  // the gradients need no scaling. `grad_output` is empty or holds one number for each pair.
  m.def(
      "channelwise_kl_layers(Tensor[] input, Tensor[] target, float temperature, float alpha, "
      "bool input_first, int reduction, bool[] grad_input, bool[] grad_target, "
      "Tensor[] grad_output) -> (Tensor[], Tensor[], Tensor[])");
  // gradient * grad_output, where grad_output is one number or one for each (sample, channel).
  m.def("channelwise_kl_backward(Tensor grad_output, Tensor gradient) -> Tensor");
  m.def("channelwise_kl_scale_(Tensor(a!) gradient, Tensor grad_output) -> ()");

  // (loss, components, sums): one branch, or two where logits_orig is given. `sums` is what the
  // backward needs: for each branch and sample the sums of BCE, probability * mask, probability,
  // mask, and the number of valid pixels. `weights` are weight, weight_orig, bce_weight,
  // dice_weight, pos_weight (unless given as a tensor) and smooth: few arguments, since torch
  // spends time on each. Reduction: 0 none, 1 sum, 2 mean.
  m.def(
      "dual_mask(Tensor logits, Tensor? logits_orig, Tensor mask, Tensor? mask_orig, "
      "Tensor? bce_target, Tensor? bce_target_orig, Tensor? pos_weight, float[] weights, "
      "int? ignore_index, int reduction) -> (Tensor, Tensor, Tensor)");
  m.def(
      "dual_mask_backward(Tensor grad_output, Tensor sums, Tensor logits, Tensor? logits_orig, "
      "Tensor mask, Tensor? mask_orig, Tensor? bce_target, Tensor? bce_target_orig, "
      "Tensor? pos_weight, float[] weights, int? ignore_index, int reduction, bool grad_logits, "
      "bool grad_logits_orig) -> (Tensor, Tensor)");

  m.def(
      "clamp_project(Tensor image, Tensor perturbation, float eps, Tensor? sample_eps, bool l2, "
      "float min, float max) -> Tensor");
  m.def(
      "clamp_project_backward(Tensor grad_output, Tensor image, Tensor perturbation, float eps, "
      "Tensor? sample_eps, bool l2, float min, float max, bool grad_image, "
      "bool grad_perturbation) -> (Tensor, Tensor)");
  m.def(
      "pgd_step_(Tensor(a!) adv, Tensor grad, Tensor image, float alpha, Tensor? sample_alpha, "
      "float eps, Tensor? sample_eps, bool l2, float min, float max) -> ()");
  m.def(
      "momentum_step_(Tensor(a!) adv, Tensor(b!) momentum, Tensor grad, Tensor image, float alpha, "
      "Tensor? sample_alpha, float eps, Tensor? sample_eps, float decay, bool l2, float min, "
      "float max) -> ()");

  m.def("image_pack(Tensor images, bool bgr, bool channels_last, ScalarType dtype) -> Tensor");
  m.def(
      "image_unpack(Tensor image, Tensor? perturbation, float eps, Tensor? sample_eps, "
      "bool bounded, bool bgr) -> Tensor");
}
