// Clamp-and-project and the attack steps on the CPU: checks, allocation, threads. Arithmetic:
// kernels/perturbation.
#include <cmath>
#include <tuple>
#include <vector>

#include "isa.h"
#include "layout.h"
#include "perturbation/scales.h"
#include "perturbation_host.h"
#include "threads.h"

namespace ansm_fast {
namespace {

using namespace perturbation;

int64_t elements_of(const Tensor& tensor) {
  return tensor.size(0) > 0 ? tensor.numel() / tensor.size(0) : 0;
}

void check_images(const Tensor& image) {
  STD_TORCH_CHECK(image.dim() >= 2, "ansm_fast: images must have shape (B, ...)");
  check_floating(image, "image");
}

std::vector<Limits> limits_of(int64_t samples, const PerSample& alpha, const PerSample& eps,
                              double min, double max) {
  std::vector<Limits> limits(static_cast<size_t>(samples));
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

// Shared by forward and backward: what one sample's l2 projection multiplies by, and its norm.
struct Shrunk {
  std::vector<ProjectionScale> scale;
  std::vector<double> norm;
};

Shrunk shrink_all(const Field& noise, bool wide, bool l2, const std::vector<Limits>& limits,
                  const Pieces& pieces) {
  Shrunk result{std::vector<ProjectionScale>(limits.size()), std::vector<double>(limits.size())};
  if (!l2) return result;
  const auto sums = sums_of<ProjectionSums>(pieces, [&](const Piece& p, ProjectionSums* s) {
    ANSM_FAST_HOST(perturbation_squared_sum, noise, wide, p.begin, p.end, s);
  });
  for (size_t i = 0; i < limits.size(); ++i) {
    result.norm[i] = std::sqrt(sums[i].squared);
    result.scale[i].offset = shrink(result.norm[i], limits[i].eps);
  }
  return result;
}

Tensor clamp_project(const Tensor& given_image, const Tensor& given_noise, double eps,
                     const OptionalTensor& sample_eps, bool l2, double min, double max) {
  check_images(given_image);
  check_floating(given_noise, "perturbation");
  check_shape(given_noise, given_image, "perturbation");
  const Order order = order_of(given_image);
  const Tensor image = in_order(given_image, order), noise = in_order(given_noise, order);
  Tensor out = place_for(image, order);
  const bool wide = is_double(image);
  const int64_t samples = image.size(0);
  const Pieces pieces(samples, elements_of(image));
  const auto limits = limits_of(samples, PerSample(0, {}, samples, ""),
                                PerSample(eps, sample_eps, samples, "eps"), min, max);
  const Projection io{field(image), field(noise), field(out)};
  const Norm norm = l2 ? Norm::kL2 : Norm::kLinf;
  const Shrunk shrunk = shrink_all(io.perturbation, wide, l2, limits, pieces);
  pieces.run([&](int64_t, const Piece& piece) {
    const size_t sample = size_t(piece.sample);
    ANSM_FAST_HOST(perturbation_project, io, wide, norm, limits[sample], shrunk.scale[sample],
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
  check_images(given_image);
  check_floating(given_grad, "grad_output");
  check_shape(given_noise, given_image, "perturbation");
  check_shape(given_grad, given_image, "grad_output");
  const Order order = order_of(given_image);
  const Tensor image = in_order(given_image, order), noise = in_order(given_noise, order);
  const Tensor grad = in_order(given_grad, order);
  Tensor to_image = grad_image ? place_for(image, order) : nothing(image);
  Tensor to_noise = grad_noise ? place_for(noise, order) : nothing(noise);
  const bool wide = is_double(image);
  const int64_t samples = image.size(0);
  const Pieces pieces(samples, elements_of(image));
  const auto limits = limits_of(samples, PerSample(0, {}, samples, ""),
                                PerSample(eps, sample_eps, samples, "eps"), min, max);
  ProjectionGradient io{field(grad), field(image), field(noise), {}, {}};
  if (grad_image) io.grad_image = field(to_image);
  if (grad_noise) io.grad_perturbation = field(to_noise);
  const Norm norm = l2 ? Norm::kL2 : Norm::kLinf;
  Shrunk shrunk = shrink_all(io.perturbation, wide, l2, limits, pieces);
  if (l2 && grad_noise) {
    const auto sums = sums_of<ProjectionSums>(pieces, [&](const Piece& p, ProjectionSums* s) {
      const size_t sample = size_t(p.sample);
      ANSM_FAST_HOST(perturbation_project_backward_sums, io, wide, limits[sample],
                     shrunk.scale[sample], p.begin, p.end, s);
    });
    for (size_t i = 0; i < sums.size(); ++i)
      if (shrunk.norm[i] > limits[i].eps)
        shrunk.scale[i].radial = sums[i].along / shrunk.norm[i] / shrunk.norm[i];
  }
  pieces.run([&](int64_t, const Piece& piece) {
    const size_t sample = size_t(piece.sample);
    ANSM_FAST_HOST(perturbation_project_backward, io, wide, norm, limits[sample],
                   shrunk.scale[sample], piece.begin, piece.end);
  });
  return {to_image, to_noise};
}

// --- attack steps -----------------------------------------------------------------------------

void run_step(const Step& step, bool wide, bool l2, const std::vector<Limits>& limits,
              const Pieces& pieces) {
  const Norm norm = l2 ? Norm::kL2 : Norm::kLinf;
  const bool momentum = step.momentum.data != nullptr;
  std::vector<StepScale> scales(limits.size());
  if (l2 || momentum) {
    const auto sums = sums_of<StepSums>(pieces, [&](const Piece& p, StepSums* s) {
      l2 ? ANSM_FAST_HOST(perturbation_step_sums, step, wide, p.begin, p.end, s)
         : ANSM_FAST_HOST(perturbation_absolute_sum, step.grad, wide, p.begin, p.end, s);
    });
    for (size_t i = 0; i < limits.size(); ++i) {
      StepSums s = sums[i];
      s.absolute_grad /= double(pieces.elements());  // the mean, as the reference has it
      scales[i] = step_scale(s, limits[i], norm, momentum, step.decay);
    }
  }
  pieces.run([&](int64_t, const Piece& piece) {
    const size_t sample = size_t(piece.sample);
    ANSM_FAST_HOST(perturbation_step, step, wide, norm, limits[sample], scales[sample], piece.begin,
                   piece.end);
  });
}

// `adv` (and `momentum`) are written in place; where they have gaps, through one copy.
void take_step(Tensor adv, std::optional<Tensor> momentum, const Tensor& given_grad,
               const Tensor& given_image, const PerSample& alpha, const PerSample& eps,
               double decay, bool l2, double min, double max) {
  check_images(adv);
  check_floating(given_grad, "grad");
  check_floating(given_image, "image");
  check_shape(given_grad, adv, "grad");
  check_shape(given_image, adv, "image");
  const Order order = order_of(adv);
  Tensor to_adv = in_order(adv, order);
  const Tensor grad = in_order(given_grad, order), image = in_order(given_image, order);
  Step step;
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
  const int64_t samples = adv.size(0);
  run_step(step, is_double(adv), l2, limits_of(samples, alpha, eps, min, max),
           Pieces(samples, elements_of(adv)));
  if (to_adv.data_ptr() != adv.data_ptr()) torch::stable::copy_(adv, to_adv);
  if (momentum && to_momentum.data_ptr() != momentum->data_ptr())
    torch::stable::copy_(*momentum, to_momentum);
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
