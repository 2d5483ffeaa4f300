// BCE + Dice on the CPU: checks, allocation, threads, and the sums' arithmetic. The pixels':
// kernels/dual_mask.
#include <array>
#include <cmath>
#include <tuple>
#include <vector>

#include "common/instruction_set.h"
#include "common/layout.h"
#include "common/threads.h"
#include "dual_mask/call.h"
#include "dual_mask/host.h"
#include "dual_mask/terms.h"

namespace ansm_fast {
namespace {

using dual_mask::Coefficients;
using dual_mask::kMaxBranches;
using dual_mask::kSums;
using dual_mask::Sums;

DualMaskCall call_of(const Tensor& first, const OptionalTensor& second, const Tensor& mask,
                     const OptionalTensor& mask_orig, const OptionalTensor& target,
                     const OptionalTensor& target_orig, const OptionalTensor& pos_weight,
                     const DualMaskWeights& weights, std::optional<int64_t> ignore) {
  DualMaskCall call(first, second, mask, mask_orig, target, target_orig, ignore);
  const double positive = PerSample(weights.positive, pos_weight, 1, "pos_weight")[0];
  // A negative weight would make of the loss what training takes for a gain.
  call.in.pos_weight = positive >= 0 ? positive : NAN;
  return call;
}

using BranchSums = std::array<Sums, kMaxBranches>;

std::vector<BranchSums> sums_of(const DualMaskCall& call) {
  const Pieces pieces(call.samples, call.elements);
  std::vector<BranchSums> parts(size_t(pieces.count()));
  pieces.run([&](int64_t index, const Piece& piece) {
    ANSM_FAST_HOST(dual_mask_forward, call.in, call.in_double, piece.begin, piece.end,
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
  const DualMaskWeights weights(given_weights);
  const DualMaskCall call =
      call_of(first, second, mask, mask_orig, target, target_orig, pos_weight, weights, ignore);
  const std::vector<BranchSums> sums = sums_of(call);

  const int64_t branches = call.in.branches, batch = call.samples;
  const bool each = reduction == kNone;
  auto [loss, components, saved] = call.places(each);

  std::vector<double> per_sample(size_t(batch), 0.0), mean(size_t(2 * branches), 0.0);
  for (int64_t b = 0; b < branches; ++b) {
    for (int64_t i = 0; i < batch; ++i) {
      const Sums& s = sums[size_t(i)][size_t(b)];
      const double values[kSums] = {s.bce, s.overlap, s.probability, s.area, s.count};
      for (int k = 0; k < kSums; ++k) set_element(saved, (b * batch + i) * kSums + k, values[k]);
      const double bce = dual_mask::bce_of(s), dice = dual_mask::dice_of(s, weights.smooth);
      per_sample[size_t(i)] += dual_mask::loss_of(bce, dice, weights.branch[b], weights);
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
  const DualMaskWeights weights(given_weights);
  const DualMaskCall call =
      call_of(first, second, mask, mask_orig, target, target_orig, pos_weight, weights, ignore);
  const Tensor factors = without_gaps(grad_output);
  const Tensor saved = without_gaps(given_sums);
  call.check_backward(factors, saved);
  const int64_t branches = call.in.branches, batch = call.samples;
  const double share = reduction == kMean ? 1 / double(batch) : 1.0;
  std::vector<std::array<Coefficients, kMaxBranches>> coefficients(static_cast<size_t>(batch));
  for (int64_t b = 0; b < branches; ++b) {
    for (int64_t i = 0; i < batch; ++i) {
      const int64_t at = (b * batch + i) * kSums;
      const Sums sums{element(saved, at), element(saved, at + 1), element(saved, at + 2),
                      element(saved, at + 3), element(saved, at + 4)};
      const double outer = share * element(factors, factors.numel() == 1 ? 0 : i);
      coefficients[size_t(i)][size_t(b)] =
          dual_mask::coefficients_of(sums, outer, weights.branch[b], weights);
    }
  }

  Field out[kMaxBranches];
  const auto gradient = call.gradients(grad_first, grad_second, out);
  Pieces(batch, call.elements).run([&](int64_t, const Piece& piece) {
    ANSM_FAST_HOST(dual_mask_backward, call.in, call.in_double,
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
