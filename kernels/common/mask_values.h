// The numbers of a mask that are neither 0 nor 1; the same on host and device.
#pragma once

namespace ansm_fast {

// What the pixel of a mask becomes that counts nowhere; a label or a probability is at most 1.
constexpr double kIgnored = 2;
// How far outside [0, 1] a soft mask may lie, as blurring and resizing leave it: one unit of
// bfloat16's last place above 1. Such a number counts as 0 or 1, any other one as NaN.
constexpr double kSlack = 1.0 / 128;

}  // namespace ansm_fast
