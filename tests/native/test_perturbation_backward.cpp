// The gradients of clamp_project.
#include "check.h"
#include "perturbation/cpu.h"
#include "perturbation/scales.h"
#include "typed.h"

namespace kernel = ansm_fast::ANSM_FAST_ISA::perturbation;
using namespace ansm_fast::perturbation;

namespace {

struct Gradients {
  Numbers image, noise;
};

Gradients naive(const Numbers& grad, const Numbers& x, const Numbers& p, Norm norm, double eps) {
  const size_t n = x.size();
  Gradients truth{Numbers(n), Numbers(n)};
  double squared = 0, along = 0;
  for (const double value : p) squared += value * value;
  const double size = std::sqrt(squared), shrink = size > eps ? eps / size : 1;
  for (size_t i = 0; i < n; ++i) {
    const double kept = norm == Norm::kLinf ? std::fmin(std::fmax(p[i], -eps), eps) : p[i] * shrink;
    const bool passes = x[i] + kept >= 0 && x[i] + kept <= 1;
    truth.image[i] = passes ? grad[i] : 0;
    along += p[i] * truth.image[i];
  }
  for (size_t i = 0; i < n; ++i) {
    const double inward = size > eps ? p[i] * along / squared : 0;
    truth.noise[i] = norm == Norm::kLinf ? (std::fabs(p[i]) <= eps ? truth.image[i] : 0)
                                         : shrink * (truth.image[i] - inward);
  }
  return truth;
}

Gradients run(ElementType type, Typed& grad, Typed& image, Typed& noise, Norm norm, double eps,
              bool want_image, bool want_noise) {
  const size_t n = image.values().size();
  Typed to_image(type, Numbers(n, 9.0)), to_noise(type, Numbers(n, 9.0));
  ProjectionGradient io{grad.field(), image.field(), noise.field(), {}, {}};
  if (want_image) io.grad_image = to_image.field();
  if (want_noise) io.grad_perturbation = to_noise.field();
  const Limits limits{eps, 0, 0, 1};
  in_arithmetic_of(type, [&](auto zero) {
    using A = decltype(zero);
    ProjectionSums squares, sums;
    ProjectionScale scale;
    if (norm == Norm::kL2) {
      kernel::squared_sum_chunk<A>(io.perturbation, 0, int64_t(n), &squares);
      scale.offset = shrink(std::sqrt(squares.squared), eps);
      in_pieces(n, [&](int64_t begin, int64_t end) {
        kernel::project_backward_sums_chunk<A>(io, limits, scale, begin, end, &sums);
      });
      if (scale.offset < 1) scale.radial = sums.along / squares.squared;
    }
    in_pieces(n, [&](int64_t begin, int64_t end) {
      kernel::project_backward_chunk<A>(io, norm, limits, scale, begin, end);
    });
  });
  return {to_image.values(), to_noise.values()};
}

void against_naive(ElementType type, size_t n, Norm norm, double eps) {
  Typed grad(type, normal(n, 3)), image(type, uniform(n, 1)), noise(type, normal(n, 2, 0.3));
  const Gradients truth = naive(grad.values(), image.values(), noise.values(), norm, eps);
  for (const bool want_image : {false, true})
    for (const bool want_noise : {false, true}) {
      const Gradients found = run(type, grad, image, noise, norm, eps, want_image, want_noise);
      const double bound = 30 * arithmetic(type) + rounding(type);
      if (want_image) CHECK_BELOW(error(found.image, truth.image), bound);
      if (want_noise) CHECK_BELOW(error(found.noise, truth.noise), bound);
    }
}

// On a border the gradient passes, as in PyTorch's clamp; beyond it does not.
void borders() {
  const ElementType type = ElementType::kFloat32;
  Typed grad(type, {1, 1, 1, 1, 1, 1}), image(type, {0.5, 0.5, 0.25, 0.75, 0.125, 0.875});
  Typed noise(type, {0.25, -0.25, -0.25, 0.25, -0.25, 0.25});
  const Gradients on = run(type, grad, image, noise, Norm::kLinf, 0.25, true, true);
  CHECK(on.image == Numbers({1, 1, 1, 1, 0, 0}) && on.noise == Numbers({1, 1, 1, 1, 0, 0}));
  const Gradients over = run(type, grad, image, noise, Norm::kLinf, 0.125, true, true);
  CHECK(over.image == Numbers({1, 1, 1, 1, 1, 1}) && over.noise == Numbers({0, 0, 0, 0, 0, 0}));
}

}  // namespace

TEST(perturbation_backward) {
  for (const ElementType type : kFloating)
    for (const size_t n : {1u, 9u, 1024u, 3001u})
      for (const Norm norm : {Norm::kLinf, Norm::kL2})
        for (const double eps : {0.05, 0.5, 100.0}) against_naive(type, n, norm, eps);
  borders();
}
