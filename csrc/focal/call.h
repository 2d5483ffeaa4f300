// What the focal ops of every device check and prepare.
#pragma once

#include <vector>

#include "common/layout.h"
#include "focal/args.h"

namespace ansm_fast {

// The tensors in one order, kept alive for the fields that point into them.
struct FocalCall {
  Tensor logits, mask;
  Order order = Order::kPlanar;
  focal::Inputs in;  // without pos_weight where that is a tensor
  focal::Reduction reduction = focal::Reduction::kMean;

  // `options`: alpha, gamma and pos_weight.
  FocalCall(const Tensor& given_logits, const Tensor& given_mask,
            const std::vector<double>& options, std::optional<int64_t> ignore, int64_t number) {
    STD_TORCH_CHECK(options.size() == 3, "ansm_fast: options must be 3 numbers");
    STD_TORCH_CHECK(number >= 0 && number <= int64_t(focal::Reduction::kMean),
                    "ansm_fast: no such reduction");
    check_floating(given_logits, "logits");
    check_shape(given_mask, given_logits, "mask");
    reduction = focal::Reduction(number);
    order = order_of(given_logits);
    logits = in_order(given_logits, order);
    mask = in_order(given_mask, order);
    in.logits = field(logits);
    in.mask = field(mask);
    in.alpha = options[0];
    in.gamma = options[1];
    in.pos_weight = options[2];
    in.has_ignore = ignore.has_value();
    in.ignore = double(ignore.value_or(0));
  }

  bool each() const { return reduction == focal::Reduction::kNone; }
  int64_t pixels() const { return logits.numel(); }
  bool in_double() const { return is_double(logits); }

  // Whether a tensor has a dtype that per-pixel losses and their gradients may have.
  void check_type(ScalarType type, const char* name) const {
    STD_TORCH_CHECK(type == logits.scalar_type() || type == ScalarType::Float, "ansm_fast: ", name,
                    " must have the dtype of the logits or float32");
  }

  // A place for the loss: of every pixel in `type`, else one number.
  Tensor place_for_loss(ScalarType type) const {
    if (!each()) {
      const auto sum = in_double() ? ScalarType::Double : ScalarType::Float;
      return torch::stable::new_empty(logits, std::vector<int64_t>{}, sum);
    }
    check_type(type, "the loss");
    return place_for(logits, order, type);
  }

  // A place for the number of pixels that are not ignored, which a loss of each doesn't need.
  Tensor place_for_count() const {
    return torch::stable::new_empty(logits, std::vector<int64_t>{each() ? 0 : 1},
                                    ScalarType::Double);
  }

  // The gradient of the loss as the kernels read it.
  Tensor factors_of(const Tensor& grad_output, const Tensor& count) const {
    STD_TORCH_CHECK(is_double(count) && count.numel() == (each() ? 0 : 1),
                    "ansm_fast: count must be that of the forward");
    if (!each()) {
      STD_TORCH_CHECK(grad_output.numel() == 1 && (is_double(grad_output) ||
                                                   grad_output.scalar_type() == ScalarType::Float),
                      "ansm_fast: grad_output must be one float32 or float64");
      return torch::stable::contiguous(grad_output);
    }
    check_shape(grad_output, logits, "grad_output");
    check_type(grad_output.scalar_type(), "grad_output");
    return in_order(grad_output, order);
  }
};

}  // namespace ansm_fast
