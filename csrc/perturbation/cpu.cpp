// Clamp-and-project and the attack steps on the CPU: checks, allocation, threads. Arithmetic:
// kernels/perturbation.
#include <tuple>
#include <vector>

#include "common/instruction_set.h"
#include "common/layout.h"
#include "common/threads.h"
#include "perturbation/call.h"
#include "perturbation/host.h"
#include "perturbation/scales.h"

namespace ansm_fast {
namespace {

using namespace perturbation;

Few<Limits> limits_of(int64_t samples, const PerSample& alpha, const PerSample& eps, double min,
                      double max) {
  Few<Limits> limits(static_cast<size_t>(samples));
  for (int64_t i = 0; i < samples; ++i) limits[size_t(i)] = {eps[i], alpha[i], min, max};
  return limits;
}

void add(ProjectionSums& sum, const ProjectionSums& part) {
  sum.squared += part.squared;
  sum.along += part.along;
}

void add(StepSums& sum, const StepSums& part) {
  sum.absolute_grad += part.absolute_grad;
  sum.grad_grad += part.grad_grad;
  sum.grad_momentum += part.grad_momentum;
  sum.momentum_momentum += part.momentum_momentum;
  sum.grad_offset += part.grad_offset;
  sum.momentum_offset += part.momentum_offset;
  sum.offset_offset += part.offset_offset;
}

// The sums of every sample's pieces; sum_piece(piece, sums) adds one piece's.
template <class Sums, class SumPiece>
std::vector<Sums> sums_of(const Pieces& pieces, const SumPiece& sum_piece) {
  std::vector<Sums> parts(size_t(pieces.count()));
  pieces.run([&](int64_t index, const Piece& piece) { sum_piece(piece, &parts[size_t(index)]); });
  return pieces.per_sample(parts, [](Sums& sum, const Sums& part) { add(sum, part); });
}

// --- clamp_project ----------------------------------------------------------------------------

// What an l2 projection multiplies each sample by; `squared` keeps the sums of squares.
Few<ProjectionScale> shrink_all(const Field& noise, bool in_double, const Few<Limits>& limits,
                                const Pieces& pieces, std::vector<ProjectionSums>& squared) {
  Few<ProjectionScale> scales(limits.size());
  squared = sums_of<ProjectionSums>(pieces, [&](const Piece& p, ProjectionSums* s) {
    ANSM_FAST_HOST(perturbation_squared_sum, noise, in_double, p.begin, p.end, s);
  });
  for (size_t i = 0; i < limits.size(); ++i)
    scales[i] = projection_scale(squared[i], limits[i].eps);
  return scales;
}

Tensor clamp_project(const Tensor& given_image, const Tensor& given_noise, double eps,
                     const OptionalTensor& sample_eps, bool l2, double min, double max) {
  const ProjectionCall call(given_image, given_noise);
  Tensor out = place_for(call.image, call.order);
  const bool in_double = is_double(call.image);
  const int64_t samples = call.image.size(0);
  const Pieces pieces(samples, elements_of(call.image));
  const auto limits = limits_of(samples, PerSample(0, {}, samples, ""),
                                PerSample(eps, sample_eps, samples, "eps"), min, max);
  const Projection io{field(call.image), field(call.noise), field(out)};
  const Norm norm = l2 ? Norm::kL2 : Norm::kLinf;
  std::vector<ProjectionSums> squared;
  Few<ProjectionScale> scales(limits.size());
  if (l2) scales = shrink_all(io.perturbation, in_double, limits, pieces, squared);
  pieces.run([&](int64_t, const Piece& piece) {
    const size_t sample = size_t(piece.sample);
    ANSM_FAST_HOST(perturbation_project, io, in_double, norm, limits[sample], scales[sample],
                   piece.begin, piece.end);
  });
  return out;
}

std::tuple<Tensor, Tensor> clamp_project_backward(const Tensor& given_grad,
                                                  const Tensor& given_image,
                                                  const Tensor& given_noise, double eps,
                                                  const OptionalTensor& sample_eps, bool l2,
                                                  double min, double max, bool grad_image,
                                                  bool grad_noise) {
  const ProjectionBackwardCall call(given_grad, given_image, given_noise, grad_image, grad_noise);
  const bool in_double = is_double(call.image);
  const int64_t samples = call.image.size(0);
  const Pieces pieces(samples, elements_of(call.image));
  const auto limits = limits_of(samples, PerSample(0, {}, samples, ""),
                                PerSample(eps, sample_eps, samples, "eps"), min, max);
  const Norm norm = l2 ? Norm::kL2 : Norm::kLinf;
  std::vector<ProjectionSums> squared;
  Few<ProjectionScale> scales(limits.size());
  if (l2) scales = shrink_all(call.io.perturbation, in_double, limits, pieces, squared);
  if (l2 && grad_noise) {
    const auto sums = sums_of<ProjectionSums>(pieces, [&](const Piece& p, ProjectionSums* s) {
      const size_t sample = size_t(p.sample);
      ANSM_FAST_HOST(perturbation_project_backward_sums, call.io, in_double, limits[sample],
                     scales[sample], p.begin, p.end, s);
    });
    for (size_t i = 0; i < sums.size(); ++i)
      scales[i] = projection_scale({squared[i].squared, sums[i].along}, limits[i].eps);
  }
  pieces.run([&](int64_t, const Piece& piece) {
    const size_t sample = size_t(piece.sample);
    ANSM_FAST_HOST(perturbation_project_backward, call.io, in_double, norm, limits[sample],
                   scales[sample], piece.begin, piece.end);
  });
  return {call.to_image, call.to_noise};
}

// --- attack steps -----------------------------------------------------------------------------

void run_step(const Step& step, bool in_double, bool l2, const Few<Limits>& limits,
              const Pieces& pieces) {
  const Norm norm = l2 ? Norm::kL2 : Norm::kLinf;
  const bool momentum = step.momentum.data != nullptr;
  Few<StepScale> scales(limits.size());
  if (l2 || momentum) {
    const auto sums = sums_of<StepSums>(pieces, [&](const Piece& p, StepSums* s) {
      l2 ? ANSM_FAST_HOST(perturbation_step_sums, step, in_double, p.begin, p.end, s)
         : ANSM_FAST_HOST(perturbation_absolute_sum, step.grad, in_double, p.begin, p.end, s);
    });
    for (size_t i = 0; i < limits.size(); ++i) {
      StepSums s = sums[i];
      s.absolute_grad /= double(pieces.elements());  // the mean, as the reference has it
      scales[i] = step_scale(s, limits[i], norm, momentum, step.decay);
    }
  }
  pieces.run([&](int64_t, const Piece& piece) {
    const size_t sample = size_t(piece.sample);
    ANSM_FAST_HOST(perturbation_step, step, in_double, norm, limits[sample], scales[sample],
                   piece.begin, piece.end);
  });
}

void take_step(const Tensor& adv, const std::optional<Tensor>& momentum, const Tensor& grad,
               const Tensor& image, const PerSample& alpha, const PerSample& eps, double decay,
               bool l2, double min, double max) {
  step_in_place(adv, momentum, grad, image, decay, [&](const Step& step) {
    const int64_t samples = adv.size(0);
    run_step(step, is_double(adv), l2, limits_of(samples, alpha, eps, min, max),
             Pieces(samples, elements_of(adv)));
  });
}

void pgd_step_(const Tensor& adv, const Tensor& grad, const Tensor& image, double alpha,
               const OptionalTensor& sample_alpha, double eps, const OptionalTensor& sample_eps,
               bool l2, double min, double max) {
  const int64_t samples = adv.dim() > 0 ? adv.size(0) : 0;
  take_step(adv, std::nullopt, grad, image, PerSample(alpha, sample_alpha, samples, "alpha"),
            PerSample(eps, sample_eps, samples, "eps"), 0, l2, min, max);
}

void momentum_step_(const Tensor& adv, const Tensor& momentum, const Tensor& grad,
                    const Tensor& image, double alpha, const OptionalTensor& sample_alpha,
                    double eps, const OptionalTensor& sample_eps, double decay, bool l2, double min,
                    double max) {
  const int64_t samples = adv.dim() > 0 ? adv.size(0) : 0;
  take_step(adv, momentum, grad, image, PerSample(alpha, sample_alpha, samples, "alpha"),
            PerSample(eps, sample_eps, samples, "eps"), decay, l2, min, max);
}

}  // namespace
}  // namespace ansm_fast

STABLE_TORCH_LIBRARY_IMPL(ansm_fast, CPU, m) {
  m.impl("clamp_project", TORCH_BOX(&ansm_fast::clamp_project));
  m.impl("clamp_project_backward", TORCH_BOX(&ansm_fast::clamp_project_backward));
  m.impl("pgd_step_", TORCH_BOX(&ansm_fast::pgd_step_));
  m.impl("momentum_step_", TORCH_BOX(&ansm_fast::momentum_step_));
}
