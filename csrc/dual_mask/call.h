// What the dual-mask ops of every device check and prepare.
#pragma once

#include <array>
#include <tuple>
#include <vector>

#include "common/layout.h"
#include "dual_mask/args.h"

namespace ansm_fast {

enum DualMaskReduction { kNone, kSum, kMean };

struct DualMaskWeights : dual_mask::Weights {
  double positive;

  // In the order of the op's signature.
  explicit DualMaskWeights(const std::vector<double>& given) {
    STD_TORCH_CHECK(given.size() == 6, "ansm_fast: weights must be 6 numbers");
    branch[0] = given[0];
    branch[1] = given[1];
    bce = given[2];
    dice = given[3];
    positive = given[4];
    smooth = given[5];
  }
};

// The tensors in one order, kept alive for the fields that point into them.
struct DualMaskCall {
  std::vector<Tensor> alive;
  dual_mask::Inputs in;  // without pos_weight
  Order order = Order::kPlanar;
  Tensor logits[dual_mask::kMaxBranches];
  int64_t samples = 0, elements = 0;
  bool in_double = false;

  DualMaskCall(const Tensor& first, const OptionalTensor& second, const Tensor& mask,
               const OptionalTensor& mask_orig, const OptionalTensor& target,
               const OptionalTensor& target_orig, std::optional<int64_t> ignore) {
    STD_TORCH_CHECK(first.dim() >= 2, "ansm_fast: logits must have shape (B, ...)");
    check_floating(first, "logits");
    order = order_of(first);
    logits[0] = in_order(first, order);
    samples = first.size(0);
    elements = samples > 0 ? first.numel() / samples : 0;
    in_double = is_double(first);
    in.branches = second ? 2 : 1;
    in.logits[0] = field(logits[0]);
    in.mask[0] = hold(mask, "mask");
    if (target) in.target[0] = hold(*target, "bce_target");
    if (second) {
      check_floating(*second, "logits_orig");
      check_shape(*second, first, "logits_orig");
      logits[1] = in_order(*second, order);
      in_double = in_double || is_double(*second);
      in.logits[1] = field(logits[1]);
      if (mask_orig) in.mask[1] = hold(*mask_orig, "mask_orig");
      if (target_orig) in.target[1] = hold(*target_orig, "bce_target_orig");
    }
    in.has_ignore = ignore.has_value();
    in.ignore = double(ignore.value_or(0));
  }

  Field hold(const Tensor& given, const char* name) {
    check_shape(given, logits[0], name);
    alive.push_back(in_order(given, order));
    return field(alive.back());
  }

  // Places for loss, components and sums; `each`: one number for each sample.
  std::tuple<Tensor, Tensor, Tensor> places(bool each) const {
    const int64_t branches = in.branches;
    std::vector<int64_t> loss, components{2 * branches};
    if (each) {
      loss.push_back(samples);
      components.push_back(samples);
    }
    const auto type = in_double ? ScalarType::Double : ScalarType::Float;
    return {new_tensor(logits[0], loss, type), new_tensor(logits[0], components, type),
            new_tensor(logits[0], std::vector<int64_t>{branches, samples, dual_mask::kSums},
                       ScalarType::Double)};
  }

  void check_backward(const Tensor& grad_output, const Tensor& sums) const {
    STD_TORCH_CHECK(is_double(sums) && sums.numel() == in.branches * samples * dual_mask::kSums,
                    "ansm_fast: sums must be those of the forward");
    STD_TORCH_CHECK(grad_output.scalar_type() == ScalarType::Float || is_double(grad_output),
                    "ansm_fast: grad_output must be float32 or float64");
    STD_TORCH_CHECK(grad_output.numel() == 1 || grad_output.numel() == samples,
                    "ansm_fast: grad_output must be one number or one for each sample");
  }

  // Places for the gradients that are wanted, and their fields.
  std::array<Tensor, dual_mask::kMaxBranches> gradients(bool first, bool second,
                                                        Field* fields) const {
    const bool wanted[] = {first, second && in.branches == 2};
    std::array<Tensor, dual_mask::kMaxBranches> result = {nothing(logits[0]), nothing(logits[0])};
    for (size_t b = 0; b < result.size(); ++b) {
      if (!wanted[b]) continue;
      result[b] = place_for(logits[b], order);
      fields[b] = field(result[b]);
    }
    return result;
  }
};

}  // namespace ansm_fast
