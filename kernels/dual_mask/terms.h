// From a sample's sums to its loss and its gradient's coefficients. In double, once a sample.
#pragma once

#include "../common/host_device.h"
#include "args.h"

namespace ansm_fast {
namespace dual_mask {

// The area is NaN where the mask holds what is no mask: such a sample has no loss at all.
ANSM_FAST_HOST_DEVICE inline bool is_no_mask(const Sums& s) { return s.area != s.area; }

// Without a pixel that counts a sample has nothing wrong.
ANSM_FAST_HOST_DEVICE inline double bce_of(const Sums& s) {
  if (is_no_mask(s)) return s.area;
  return s.count == 0 ? 0 : s.bce / s.count;
}

// At least 0, whatever the rounding.
ANSM_FAST_HOST_DEVICE inline double dice_of(const Sums& s, double smooth) {
  const double denominator = s.probability + s.area + smooth;
  if (s.count == 0 || denominator <= kNothing) return 0;
  const double loss = 1 - (2 * s.overlap + smooth) / denominator;
  return loss < 0 ? 0 : loss;
}

// What is weighted by 0 is left out, as 0 * NaN would be NaN. `branch`: the branch's weight.
ANSM_FAST_HOST_DEVICE inline double loss_of(double bce, double dice, double branch,
                                            const Weights& weights) {
  double loss = 0;
  if (weights.bce != 0) loss += weights.bce * bce;
  if (weights.dice != 0) loss += weights.dice * dice;
  return branch == 0 ? 0 : branch * loss;
}

// `outer` is the gradient of the sample's loss. Where it or a weight is 0, so is the coefficient.
ANSM_FAST_HOST_DEVICE inline Coefficients coefficients_of(const Sums& s, double outer,
                                                          double branch, const Weights& weights) {
  const double g = branch == 0 ? 0 : branch * outer;
  if (g == 0 || s.count == 0) return {};
  if (is_no_mask(s)) return {s.area, s.area, s.area};
  const double denominator = s.probability + s.area + weights.smooth;
  Coefficients c;
  if (weights.bce != 0) c.bce = g * weights.bce / s.count;
  if (weights.dice != 0 && !(denominator <= kNothing)) {
    c.dice_base = g * weights.dice * (2 * s.overlap + weights.smooth) / denominator / denominator;
    c.dice_slope = g * weights.dice * 2 / denominator;
  }
  return c;
}

}  // namespace dual_mask
}  // namespace ansm_fast
