// What the channel-wise KL kernels of every instruction set take and give.
#pragma once

#include <cstdint>

#include "../common/field.h"

namespace ansm_fast {
namespace channelwise_kl {

constexpr int64_t kMaxChannelBlock = 256;
constexpr int64_t kKeptPixels = 8192;  // of a row whose exponentials are kept in the cache

// KL(first || second) of rows normalized over `pixels`; the caller swaps input and target for the
// other direction. Gradients of the sum over rows, times `gradient_scale`; null where not wanted.
struct Inputs {
  Field first;
  Field second;
  Field grad_first;
  Field grad_second;
  int64_t pixels = 0;
  int64_t channels = 0;        // neighbours in memory of the channels-last kernel
  int64_t channel_block = 16;  // how many of them one call takes, at most kMaxChannelBlock
  double inverse_temperature = 1;
  double alpha = 0;
  double gradient_scale = 1;
  bool streamed = false;  // gradients are larger than the caches
};

// out = gradient * factor[row]; `out` may be `gradient`.
struct Scaling {
  Field gradient;
  Field out;
  const double* factor = nullptr;  // one for each (sample, channel)
  int64_t pixels = 0;
  int64_t channels = 0;
};

}  // namespace channelwise_kl
}  // namespace ansm_fast
