// From a sample's sums to the factors its elements share. In double, once a sample.
#pragma once

#include <cmath>

#include "../common/host_device.h"
#include "args.h"

namespace ansm_fast {
namespace perturbation {

// 1 / norm, but 0 for a zero vector: it has no direction, and 0 / 0 would poison the sample.
ANSM_FAST_HOST_DEVICE inline double inverse_norm(double norm) {
  return norm == 0 ? 0.0 : 1.0 / norm;
}

ANSM_FAST_HOST_DEVICE inline double shrink(double norm, double eps) {
  return norm > eps ? eps / norm : 1.0;
}

ANSM_FAST_HOST_DEVICE inline ProjectionScale projection_scale(const ProjectionSums& s, double eps) {
  const double norm = std::sqrt(s.squared);
  ProjectionScale scale;
  scale.offset = shrink(norm, eps);
  if (norm > eps) scale.radial = s.along / norm / norm;
  return scale;
}

ANSM_FAST_HOST_DEVICE inline StepScale step_scale(const StepSums& s, const Limits& limits,
                                                  Norm norm, bool momentum, double decay) {
  StepScale scale;
  if (momentum) scale.grad = inverse_norm(s.absolute_grad);
  if (norm == Norm::kLinf) return scale;
  const double c = scale.grad, m = momentum ? decay : 0.0;
  const double squared =
      m * m * s.momentum_momentum + 2 * m * c * s.grad_momentum + c * c * s.grad_grad;
  const double along = m * s.momentum_offset + c * s.grad_offset;
  scale.direction = limits.alpha * inverse_norm(std::sqrt(squared < 0 ? 0.0 : squared));
  const double offset =
      s.offset_offset + 2 * scale.direction * along + scale.direction * scale.direction * squared;
  scale.offset = shrink(std::sqrt(offset < 0 ? 0.0 : offset), limits.eps);
  return scale;
}

}  // namespace perturbation
}  // namespace ansm_fast
