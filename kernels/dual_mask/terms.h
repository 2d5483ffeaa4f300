// From a sample's sums to its loss and its gradient's coefficients. In double, once a sample.
#pragma once

#include "../common/host_device.h"
#include "args.h"

namespace ansm_fast {
namespace dual_mask {

ANSM_FAST_HOST_DEVICE inline double bce_of(const Sums& s) { return s.bce / s.count; }

ANSM_FAST_HOST_DEVICE inline double dice_of(const Sums& s, double smooth) {
  return 1 - (2 * s.overlap + smooth) / (s.probability + s.area + smooth);
}

// `g` is the gradient of the branch's loss of this sample.
ANSM_FAST_HOST_DEVICE inline Coefficients coefficients_of(const Sums& s, double g,
                                                          const Weights& weights) {
  const double denominator = s.probability + s.area + weights.smooth;
  Coefficients c;
  c.bce = g * weights.bce / s.count;
  c.dice_base = g * weights.dice * (2 * s.overlap + weights.smooth) / denominator / denominator;
  c.dice_slope = g * weights.dice * 2 / denominator;
  return c;
}

}  // namespace dual_mask
}  // namespace ansm_fast
