// BCE + Dice on the CPU: checks, allocation, threads, and the sums' arithmetic. The pixels':
// kernels/dual_mask.
#include <array>
#include <tuple>
#include <vector>

#include "dual_mask_host.h"
#include "isa.h"
#include "layout.h"
#include "threads.h"

namespace ansm_fast {
namespace {

using dual_mask::Coefficients;
using dual_mask::kMaxBranches;
using dual_mask::Sums;

enum Reduction { kNone, kSum, kMean };
constexpr int kSums = 5;

struct Weights {
  std::array<double, kMaxBranches> branch;
  double bce, dice, positive, smooth;

  // In the order of the op's signature.
  explicit Weights(const std::vector<double>& given) {
    STD_TORCH_CHECK(given.size() == 6, "ansm_fast: weights must be 6 numbers");
    branch = {given[0], given[1]};
    bce = given[2];
    dice = given[3];
    positive = given[4];
    smooth = given[5];
  }
};

// The tensors in one order, kept alive for the fields that point into them.
struct Call {
  std::vector<Tensor> alive;
  dual_mask::Inputs in;
  Order order = Order::kPlanar;
  Tensor logits[kMaxBranches];
  int64_t samples = 0, elements = 0;
  bool wide = false;

  Field hold(const Tensor& given, const char* name) {
    check_shape(given, logits[0], name);
    alive.push_back(in_order(given, order));
    return field(alive.back());
  }

  Call(const Tensor& first, const OptionalTensor& second, const Tensor& mask,
       const OptionalTensor& mask_orig, const OptionalTensor& target,
       const OptionalTensor& target_orig, const OptionalTensor& pos_weight, const Weights& weights,
       std::optional<int64_t> ignore) {
    STD_TORCH_CHECK(first.dim() >= 2, "ansm_fast: logits must have shape (B, ...)");
    check_floating(first, "logits");
    order = order_of(first);
    logits[0] = in_order(first, order);
    samples = first.size(0);
    elements = samples > 0 ? first.numel() / samples : 0;
    wide = is_double(first);
    in.branches = second ? 2 : 1;
    in.logits[0] = field(logits[0]);
    in.mask[0] = hold(mask, "mask");
    if (target) in.target[0] = hold(*target, "bce_target");
    if (second) {
      check_floating(*second, "logits_orig");
      check_shape(*second, first, "logits_orig");
      logits[1] = in_order(*second, order);
      wide = wide || is_double(*second);
      in.logits[1] = field(logits[1]);
      if (mask_orig) in.mask[1] = hold(*mask_orig, "mask_orig");
      if (target_orig) in.target[1] = hold(*target_orig, "bce_target_orig");
    }
    in.pos_weight = PerSample(weights.positive, pos_weight, 1, "pos_weight")[0];
    in.has_ignore = ignore.has_value();
    in.ignore = double(ignore.value_or(0));
  }
};

double bce_of(const Sums& s) { return s.bce / s.count; }

double dice_of(const Sums& s, double smooth) {
  return 1 - (2 * s.overlap + smooth) / (s.probability + s.area + smooth);
}

using BranchSums = std::array<Sums, kMaxBranches>;

std::vector<BranchSums> sums_of(const Call& call) {
  const Pieces pieces(call.samples, call.elements);
  std::vector<BranchSums> parts(size_t(pieces.count()));
  pieces.run([&](int64_t index, const Piece& piece) {
    ANSM_FAST_HOST(dual_mask_forward, call.in, call.wide, piece.begin, piece.end,
                   parts[size_t(index)].data());
  });
  return pieces.per_sample(parts, [](BranchSums& sum, const BranchSums& part) {
    for (size_t b = 0; b < sum.size(); ++b) {
      sum[b].bce += part[b].bce;
      sum[b].overlap += part[b].overlap;
      sum[b].probability += part[b].probability;
      sum[b].area += part[b].area;
      sum[b].count += part[b].count;
    }
  });
}

std::tuple<Tensor, Tensor, Tensor> forward(const Tensor& first, const OptionalTensor& second,
                                           const Tensor& mask, const OptionalTensor& mask_orig,
                                           const OptionalTensor& target,
                                           const OptionalTensor& target_orig,
                                           const OptionalTensor& pos_weight,
                                           const std::vector<double>& given_weights,
                                           std::optional<int64_t> ignore, int64_t reduction) {
  STD_TORCH_CHECK(reduction >= kNone && reduction <= kMean, "ansm_fast: no such reduction");
  const Weights weights(given_weights);
  const Call call(first, second, mask, mask_orig, target, target_orig, pos_weight, weights, ignore);
  const std::vector<BranchSums> sums = sums_of(call);

  const int64_t branches = call.in.branches, batch = call.samples;
  const bool each = reduction == kNone;
  const auto type = call.wide ? ScalarType::Double : ScalarType::Float;
  const auto allocate = [&](const std::vector<int64_t>& shape, ScalarType dtype) {
    return torch::stable::new_empty(call.logits[0], shape, dtype);
  };
  const std::vector<int64_t> loss_shape =
      each ? std::vector<int64_t>{batch} : std::vector<int64_t>{};
  const std::vector<int64_t> component_shape =
      each ? std::vector<int64_t>{2 * branches, batch} : std::vector<int64_t>{2 * branches};
  Tensor loss = allocate(loss_shape, type), components = allocate(component_shape, type);
  Tensor saved = allocate({branches, batch, kSums}, ScalarType::Double);

  std::vector<double> per_sample(size_t(batch), 0.0), mean(size_t(2 * branches), 0.0);
  for (int64_t b = 0; b < branches; ++b) {
    for (int64_t i = 0; i < batch; ++i) {
      const Sums& s = sums[size_t(i)][size_t(b)];
      const double values[kSums] = {s.bce, s.overlap, s.probability, s.area, s.count};
      for (int k = 0; k < kSums; ++k) set_element(saved, (b * batch + i) * kSums + k, values[k]);
      const double bce = bce_of(s), dice = dice_of(s, weights.smooth);
      per_sample[size_t(i)] +=
          weights.branch[size_t(b)] * (weights.bce * bce + weights.dice * dice);
      mean[size_t(2 * b)] += bce;
      mean[size_t(2 * b + 1)] += dice;
      if (each) {
        set_element(components, 2 * b * batch + i, bce);
        set_element(components, (2 * b + 1) * batch + i, dice);
      }
    }
  }
  const double divisor = reduction == kMean ? double(batch) : 1.0;
  double total = 0;
  for (int64_t i = 0; i < batch; ++i) {
    if (each) set_element(loss, i, per_sample[size_t(i)]);
    total += per_sample[size_t(i)];
  }
  if (!each) {
    set_element(loss, 0, total / divisor);
    for (int64_t k = 0; k < 2 * branches; ++k)
      set_element(components, k, mean[size_t(k)] / divisor);
  }
  return {loss, components, saved};
}

std::tuple<Tensor, Tensor> backward(const Tensor& grad_output, const Tensor& given_sums,
                                    const Tensor& first, const OptionalTensor& second,
                                    const Tensor& mask, const OptionalTensor& mask_orig,
                                    const OptionalTensor& target, const OptionalTensor& target_orig,
                                    const OptionalTensor& pos_weight,
                                    const std::vector<double>& given_weights,
                                    std::optional<int64_t> ignore, int64_t reduction,
                                    bool grad_first, bool grad_second) {
  const Weights weights(given_weights);
  const Call call(first, second, mask, mask_orig, target, target_orig, pos_weight, weights, ignore);
  const Tensor factors = torch::stable::contiguous(grad_output);
  const Tensor saved = torch::stable::contiguous(given_sums);
  const int64_t branches = call.in.branches, batch = call.samples;
  STD_TORCH_CHECK(is_double(saved) && saved.numel() == branches * batch * kSums,
                  "ansm_fast: sums must be those of the forward");
  STD_TORCH_CHECK(factors.scalar_type() == ScalarType::Float || is_double(factors),
                  "ansm_fast: grad_output must be float32 or float64");
  STD_TORCH_CHECK(factors.numel() == 1 || factors.numel() == batch,
                  "ansm_fast: grad_output must be one number or one for each sample");

  const double share = reduction == kMean ? 1 / double(batch) : 1.0;
  std::vector<std::array<Coefficients, kMaxBranches>> coefficients(static_cast<size_t>(batch));
  for (int64_t b = 0; b < branches; ++b) {
    for (int64_t i = 0; i < batch; ++i) {
      const int64_t at = (b * batch + i) * kSums;
      const double overlap = element(saved, at + 1), probability = element(saved, at + 2);
      const double area = element(saved, at + 3), count = element(saved, at + 4);
      const double g =
          weights.branch[size_t(b)] * share * element(factors, factors.numel() == 1 ? 0 : i);
      const double denominator = probability + area + weights.smooth;
      coefficients[size_t(i)][size_t(b)] = {
          g * weights.bce / count,
          g * weights.dice * (2 * overlap + weights.smooth) / denominator / denominator,
          g * weights.dice * 2 / denominator};
    }
  }

  const bool wanted[kMaxBranches] = {grad_first, grad_second && branches == 2};
  Tensor gradient[kMaxBranches] = {nothing(first), nothing(first)};
  Field out[kMaxBranches];
  for (int b = 0; b < kMaxBranches; ++b) {
    if (!wanted[b]) continue;
    gradient[b] = place_for(call.logits[b], call.order);
    out[b] = field(gradient[b]);
  }
  Pieces(batch, call.elements).run([&](int64_t, const Piece& piece) {
    ANSM_FAST_HOST(dual_mask_backward, call.in, call.wide,
                   coefficients[size_t(piece.sample)].data(), out, piece.begin, piece.end);
  });
  return {gradient[0], gradient[1]};
}

}  // namespace
}  // namespace ansm_fast

STABLE_TORCH_LIBRARY_IMPL(ansm_fast, CPU, m) {
  m.impl("dual_mask", TORCH_BOX(&ansm_fast::forward));
  m.impl("dual_mask_backward", TORCH_BOX(&ansm_fast::backward));
}
