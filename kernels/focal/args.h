// What the focal-loss kernels of every instruction set and of the device take and give.
#pragma once

#include <cstdint>

#include "../common/field.h"
#include "../common/host_device.h"
#include "../common/mask_values.h"

namespace ansm_fast {
namespace focal {

struct Inputs {
  Field logits;
  Field mask;
  double alpha = -1;  // negative: both classes weigh 1
  double gamma = 2;
  double pos_weight = 1;
  double ignore = 0;
  bool has_ignore = false;
};

// Over the pixels that are not ignored.
struct Sums {
  double loss = 0;
  double count = 0;
};

enum class Reduction : uint8_t { kNone, kSum, kMean };

// How (1 - p_t)^gamma is made.
enum class Modulation : uint8_t {
  kOne,     // gamma = 0: not at all
  kSquare,  // gamma = 2
  kPower,   // by a logarithm and an exponential
};

ANSM_FAST_HOST_DEVICE inline Modulation modulation_of(double gamma) {
  return gamma == 0 ? Modulation::kOne : gamma == 2 ? Modulation::kSquare : Modulation::kPower;
}

// Where no pixel counts there is nothing wrong.
ANSM_FAST_HOST_DEVICE inline double loss_of(const Sums& sums, Reduction reduction) {
  const bool divides = reduction == Reduction::kMean && sums.count > 0;
  return divides ? sums.loss / sums.count : sums.loss;
}

// The gradient of each pixel's loss, from that of the loss of all pixels.
ANSM_FAST_HOST_DEVICE inline double factor_of(double grad_output, double count,
                                              Reduction reduction) {
  if (reduction != Reduction::kMean) return grad_output;
  return count > 0 ? grad_output / count : 0;
}

}  // namespace focal
}  // namespace ansm_fast
