// uint8 pixels to real numbers and back: host kernels, one run of one sample's pixels a call.
// The formulas, the traffic and the rounding are in README.md.
#pragma once

#include <cmath>
#include <cstdint>

#include "../common/isa.h"
#include "../common/staging.h"
#include "args.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {
namespace image_pack {

using namespace ansm_fast::image_pack;

// The 256 possible results: a lookup replaces conversion and division, in every type alike.
inline void fill_table(ElementType type, void* table) {
  float singles[kLevels];
  for (int level = 0; level < kLevels; ++level) singles[level] = float(level) / 255.0f;
  auto* halves = static_cast<uint16_t*>(table);
  if (type == ElementType::kFloat16) narrow_float16(singles, kLevels, halves);
  if (type == ElementType::kBFloat16) narrow_bfloat16(singles, kLevels, halves);
  if (type == ElementType::kFloat32) std::memcpy(table, singles, sizeof(singles));
  if (type == ElementType::kFloat64)
    for (int level = 0; level < kLevels; ++level)
      static_cast<double*>(table)[level] = double(level) / 255.0;
}

template <class T>
inline void pack_run(const Pack& io, int64_t begin, int64_t end) {
  const T* __restrict table = static_cast<const T*>(io.table);
  T* out = static_cast<T*>(io.image.data);
  const uint8_t* __restrict bytes = io.bytes + begin * kChannels;
  const int first = io.reverse ? 2 : 0, last = 2 - first;
  const bool planar = io.layout == Layout::kPlanar;
  const int64_t stride = planar ? io.pixels : 1;
  const int64_t origin = planar ? begin : begin * kChannels;
  T* __restrict a = out + origin + first * stride;
  T* __restrict b = out + origin + stride;
  T* __restrict c = out + origin + last * stride;
  const int64_t n = end - begin, pace = planar ? 1 : kChannels;
  for (int64_t i = 0; i < n; ++i) {
    a[i * pace] = table[bytes[i * kChannels]];
    b[i * pace] = table[bytes[i * kChannels + 1]];
    c[i * pace] = table[bytes[i * kChannels + 2]];
  }
}

// `T` is any type of the image's element size: the table holds its bits.
inline void pack_chunk(const Pack& io, int64_t begin, int64_t end) {
  switch (io.image.type) {
    case ElementType::kFloat32: return pack_run<uint32_t>(io, begin, end);
    case ElementType::kFloat64: return pack_run<uint64_t>(io, begin, end);
    default: return pack_run<uint16_t>(io, begin, end);
  }
}

// Rounds a number in [0, 255] half to even. The low byte holds the level, the others are the same
// for every level: of 1.5 * 2^mantissa, whose addition rounds.
ANSM_FAST_ELEMENT int32_t raised_level(float value) {
  return int32_t(bits<uint32_t>(value + 12582912.0f));
}

ANSM_FAST_ELEMENT int32_t raised_level(double value) {
  return int32_t(uint32_t(bits<uint64_t>(value + 6755399441055744.0)));
}

template <class A>
ANSM_FAST_ELEMENT A scaled_level(A value) {  // NaN gives 0
  value = value > A(0) ? value : A(0);
  return (value < A(1) ? value : A(1)) * A(255);
}

template <class A>
inline void quantize(const A* image, const A* noise, int64_t n, const Unpack& io, uint8_t* out) {
  if (!noise) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = uint8_t(raised_level(scaled_level(image[i])) & 0xff);
    return;
  }
  const A eps = io.bounded ? A(io.eps) : A(INFINITY);
  const int32_t budget = io.bounded ? whole_levels(io.eps) : 255;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    A p = noise[i] < -eps ? -eps : noise[i];
    p = p > eps ? eps : p;
    const int32_t start = raised_level(scaled_level(image[i]));
    int32_t level = raised_level(scaled_level(image[i] + p));
    level = level < start - budget ? start - budget : level;
    out[i] = uint8_t((level > start + budget ? start + budget : level) & 0xff);
  }
}

template <class A>
void unpack_planar(const Unpack& io, int64_t begin, int64_t end) {
  A image_buffer[kStagedBlock], noise_buffer[kStagedBlock];
  uint8_t levels[kChannels][kStagedBlock];
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    for (int channel = 0; channel < kChannels; ++channel) {
      const int64_t origin = channel * io.pixels + at;
      const A* image = fetch(io.image, origin, n, image_buffer);
      const A* noise =
          io.perturbation.data ? fetch(io.perturbation, origin, n, noise_buffer) : nullptr;
      quantize(image, noise, n, io, levels[io.reverse ? 2 - channel : channel]);
    }
    uint8_t* __restrict bytes = io.bytes + at * kChannels;
    for (int64_t i = 0; i < n; ++i) {
      bytes[i * kChannels] = levels[0][i];
      bytes[i * kChannels + 1] = levels[1][i];
      bytes[i * kChannels + 2] = levels[2][i];
    }
  }
}

template <class A>
void unpack_interleaved(const Unpack& io, int64_t begin, int64_t end) {
  constexpr int64_t kPixels = kStagedBlock / kChannels;
  A image_buffer[kStagedBlock], noise_buffer[kStagedBlock];
  uint8_t levels[kStagedBlock];
  const int first = io.reverse ? 2 : 0, last = 2 - first;
  for (int64_t at = begin; at < end; at += kPixels) {
    const int64_t pixels = end - at < kPixels ? end - at : kPixels;
    const int64_t origin = at * kChannels, n = pixels * kChannels;
    const A* image = fetch(io.image, origin, n, image_buffer);
    const A* noise =
        io.perturbation.data ? fetch(io.perturbation, origin, n, noise_buffer) : nullptr;
    quantize(image, noise, n, io, levels);
    uint8_t* __restrict bytes = io.bytes + origin;
    for (int64_t i = 0; i < n; i += kChannels) {
      bytes[i] = levels[i + first];
      bytes[i + 1] = levels[i + 1];
      bytes[i + 2] = levels[i + last];
    }
  }
}

template <class A>
void unpack_chunk(const Unpack& io, int64_t begin, int64_t end) {
  if (io.layout == Layout::kPlanar)
    unpack_planar<A>(io, begin, end);
  else
    unpack_interleaved<A>(io, begin, end);
}

}  // namespace image_pack
}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
