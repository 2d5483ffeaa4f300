// What the image packing kernels of every instruction set take and give.
#pragma once

#include <cmath>
#include <cstdint>

#include "../common/field.h"
#include "../common/host_device.h"

namespace ansm_fast {
namespace image_pack {

constexpr int kChannels = 3;
constexpr int kLevels = 256;

enum class Layout : uint8_t { kPlanar, kInterleaved };  // contiguous, channels_last

// One sample: `bytes` holds `pixels` interleaved triples, `image` the same as real numbers.
struct Pack {
  const uint8_t* bytes = nullptr;
  Field image;
  Layout layout = Layout::kPlanar;
  int64_t pixels = 0;
  bool reverse = true;          // the bytes are BGR, the image RGB
  const void* table = nullptr;  // level / 255 of each of the 256 levels, in the image's type
};

struct Unpack {
  Field image;
  Field perturbation;  // null: none
  uint8_t* bytes = nullptr;
  Layout layout = Layout::kPlanar;
  int64_t pixels = 0;
  bool reverse = true;
  double eps = 0;
  bool bounded = false;  // whether eps holds
};

// The levels that a budget lets a pixel move: rounding must not spend what is left of it between
// two levels, hence whole ones. The slack forgives an eps that was itself rounded to a half type.
// Static, as every instruction set has its own.
ANSM_FAST_HOST_DEVICE static inline int whole_levels(double eps) {
  const double whole = std::floor(eps * 255.0 * (1.0 + 1.0 / 1024.0));
  return whole < 255.0 ? int(whole) : 255;
}

}  // namespace image_pack
}  // namespace ansm_fast
