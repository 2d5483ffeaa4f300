// What the dual-mask kernels of every instruction set take and give.
#pragma once

#include <cstdint>

#include "../common/field.h"
#include "../common/mask_values.h"

namespace ansm_fast {
namespace dual_mask {

constexpr int kMaxBranches = 2;
constexpr int kSums = 5;  // numbers in Sums

// A Dice denominator that is no more has neither a mask nor a prediction in it: more than 2^31
// pixels of the least probability that the kernels know, exp(-87).
constexpr double kNothing = 1e-28;

// A missing mask is the previous branch's; a missing target is the branch's mask.
struct Inputs {
  int branches = 1;
  Field logits[kMaxBranches];
  Field mask[kMaxBranches];
  Field target[kMaxBranches];
  double pos_weight = 1;
  double ignore = 0;
  bool has_ignore = false;
};

struct Weights {
  double branch[kMaxBranches] = {1, 1};
  double bce = 1;
  double dice = 1;
  double smooth = 1;
};

// Sums over the pixels of one sample that are not ignored.
struct Sums {
  double bce = 0;
  double overlap = 0;  // of probability * mask
  double probability = 0;
  double area = 0;  // of the mask
  double count = 0;
};

// gradient = bce * d(BCE)/dz + p (1 - p) (dice_base - dice_slope * mask)
struct Coefficients {
  double bce = 0;
  double dice_base = 0;
  double dice_slope = 0;
};

}  // namespace dual_mask
}  // namespace ansm_fast
