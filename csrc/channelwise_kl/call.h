// What the channel-wise KL ops of every device share: checks, reductions, places for results.
#pragma once

#include <algorithm>
#include <cstddef>
#include <tuple>
#include <vector>

#include "common/layout.h"

namespace ansm_fast {

using Tensors = std::vector<Tensor>;

enum Reduction { kNone, kSum, kBatchMean, kChannelMean, kMean };

inline int64_t pixels_of(const Tensor& tensor) {
  int64_t pixels = 1;
  for (int64_t d = 2; d < tensor.dim(); ++d) pixels *= tensor.size(d);
  return pixels;
}

inline double divisor_of(int64_t reduction, double batch, double channels, double pixels) {
  switch (reduction) {
    case kBatchMean: return batch;
    case kChannelMean: return batch * channels;
    case kMean: return batch * channels * pixels;
    default: return 1;
  }
}

inline bool is_factor(const Tensor& tensor) {
  return tensor.scalar_type() == ScalarType::Float || is_double(tensor);
}

// Two maps in one order, and places for what is made of them.
struct KlCall {
  Order order;
  Tensor input, target;
  int64_t batch, channels, pixels;
  double divisor;
  bool in_double;         // sums in double
  bool rows;              // a loss for each row
  OptionalTensor factor;  // multiplies the gradients, and then no loss is made
  bool grad_input, grad_target;
  Tensor loss, to_input, to_target;

  // `layers`: how many pairs share the loss.
  KlCall(const Tensor& given_input, const Tensor& given_target, int64_t reduction,
         bool wants_grad_input, bool wants_grad_target, const OptionalTensor& grad_output,
         size_t layers = 1)
      : grad_input(wants_grad_input), grad_target(wants_grad_target) {
    STD_TORCH_CHECK(given_input.dim() >= 3, "ansm_fast: input must have shape (B, C, *space)");
    STD_TORCH_CHECK(reduction >= kNone && reduction <= kMean, "ansm_fast: no such reduction");
    check_floating(given_input, "input");
    check_floating(given_target, "target");
    check_shape(given_target, given_input, "target");
    order = order_of(given_input);
    input = in_order(given_input, order);
    target = in_order(given_target, order);
    batch = input.size(0);
    channels = input.size(1);
    pixels = pixels_of(input);
    in_double = is_double(input) || is_double(target);
    rows = reduction == kNone;
    divisor = divisor_of(reduction, double(batch), double(channels), double(pixels));
    if (!rows) divisor *= double(layers);
    if (grad_output) {
      STD_TORCH_CHECK(is_factor(*grad_output) && grad_output->numel() == 1,
                      "ansm_fast: grad_output must be one number, float32 or float64");
      factor = grad_output;
    }
    std::vector<int64_t> shape;
    if (factor)
      shape = {0};
    else if (rows)
      shape = {batch, channels};
    loss = new_tensor(input, shape, in_double ? ScalarType::Double : ScalarType::Float);
    to_input = grad_input ? place_for(input, order) : nothing(input);
    to_target = grad_target ? place_for(target, order) : nothing(target);
  }
};

inline void check_layers(const Tensors& input, const Tensors& target,
                         const std::vector<bool>& grad_input, const std::vector<bool>& grad_target,
                         const Tensors& grad_output) {
  const size_t count = input.size();
  STD_TORCH_CHECK(target.size() == count && grad_input.size() == count &&
                      grad_target.size() == count &&
                      (grad_output.empty() || grad_output.size() == count),
                  "ansm_fast: lists of layers differ in length");
}

inline OptionalTensor factor_of_layer(const Tensors& grad_output, size_t layer) {
  if (grad_output.empty()) return {};
  return grad_output[layer];
}

// grad_output without gaps: one number, or one for each row of the gradient.
inline Tensor checked_factors(const Tensor& grad_output, const Tensor& gradient) {
  STD_TORCH_CHECK(is_factor(grad_output), "ansm_fast: grad_output must be float32 or float64");
  STD_TORCH_CHECK(
      grad_output.numel() == 1 || grad_output.numel() == gradient.size(0) * gradient.size(1),
      "ansm_fast: grad_output must be one number or one for each row");
  return without_gaps(grad_output);
}

inline void check_in_place(const Tensor& gradient) {
  STD_TORCH_CHECK(gradient.is_contiguous() || is_channels_last(gradient),
                  "ansm_fast: the gradient must lie in memory without gaps");
}

}  // namespace ansm_fast
