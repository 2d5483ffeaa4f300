// What the perturbation kernels of every instruction set take and give.
#pragma once

#include <cstdint>

#include "../common/field.h"

namespace ansm_fast {
namespace perturbation {

enum class Norm : uint8_t { kLinf, kL2 };

// One sample's budget, step and valid range.
struct Limits {
  double eps = 0;
  double alpha = 0;
  double min = 0;
  double max = 1;
};

// `momentum` is null in a plain gradient step.
struct Step {
  Field adv;
  Field momentum;
  Field grad;
  Field image;
  double decay = 0;
};

// The factors a sample's elements share, made from its sums between the two passes.
struct StepScale {
  double grad = 1;       // on the gradient before it enters the momentum: 1 / |grad|_1
  double direction = 0;  // on the l2 direction: alpha / |direction|_2
  double offset = 1;     // on (stepped - image): min(1, eps / its norm)
};

// Sums over one sample, for the scales; d = adv - image.
struct StepSums {
  double absolute_grad = 0;
  double grad_grad = 0;
  double grad_momentum = 0;
  double momentum_momentum = 0;
  double grad_offset = 0;
  double momentum_offset = 0;
  double offset_offset = 0;
};

struct Projection {
  Field image;
  Field perturbation;
  Field out;
};

struct ProjectionGradient {
  Field grad_output;
  Field image;
  Field perturbation;
  Field grad_image;         // null where not wanted
  Field grad_perturbation;  // null where not wanted
};

struct ProjectionScale {
  double offset = 1;  // min(1, eps / |perturbation|_2)
  double radial = 0;  // (perturbation . passed gradient) / |perturbation|_2^2 where offset < 1
};

struct ProjectionSums {
  double squared = 0;
  double along = 0;  // perturbation . passed gradient
};

}  // namespace perturbation
}  // namespace ansm_fast
