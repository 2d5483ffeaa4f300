// uint8 pixels to real numbers and back on the device. A block takes 256 vectors of each channel;
// the bytes cross over in shared memory. Formulas, traffic and rounding: README.md.
#pragma once

#include "args.h"
#include "cuda_staging.cuh"

namespace ansm_fast {
namespace gpu {
namespace image_pack {

using namespace ansm_fast::image_pack;

// One sample after the other; bytes, image and perturbation are those of the whole batch.
struct Batch {
  int64_t samples = 0;
  SampleNumber eps;  // of an unpack
};

// --- one element ------------------------------------------------------------------------------

// level / 255, rounded once: a product with the rounded reciprocal, corrected by its remainder,
// as a division itself does it.
__device__ __forceinline__ float fraction_of(float level) {
  constexpr float kReciprocal = 1.0f / 255.0f;
  const float guess = level * kReciprocal;
  return fmaf(fmaf(-guess, 255.0f, level), kReciprocal, guess);
}

__device__ __forceinline__ double fraction_of(double level) {
  constexpr double kReciprocal = 1.0 / 255.0;
  const double guess = level * kReciprocal;
  return fma(fma(-guess, 255.0, level), kReciprocal, guess);
}

// Round half to even of a number in [0, 255]: 1.5 * 2^mantissa leaves the integer in the low bits.
__device__ __forceinline__ int nearest_level(float value) {
  return int(bits_of(value + 12582912.0f) & 0xffu);
}

__device__ __forceinline__ int nearest_level(double value) {
  const double shifted = value + 6755399441055744.0;
  uint64_t raw;
  memcpy(&raw, &shifted, sizeof(raw));
  return int(raw & 0xffu);
}

template <class A>
__device__ __forceinline__ A scaled_level(A value) {  // NaN gives 0
  value = value > A(0) ? value : A(0);
  return (value < A(1) ? value : A(1)) * A(255);
}

template <class A>
__device__ __forceinline__ int moved_level(A image, A noise, A eps, int budget) {
  A p = noise < -eps ? -eps : noise;
  p = p > eps ? eps : p;
  const int start = nearest_level(scaled_level(image));
  int level = nearest_level(scaled_level(image + p));
  level = level < start - budget ? start - budget : level;
  return level > start + budget ? start + budget : level;
}

// --- which element of the image lies where ------------------------------------------------------

// V elements of each of three groups for a thread: of the channels' planes, or, interleaved, of
// three runs of a tile.
template <int V>
struct PixelTile {
  static constexpr int kPixels = kTileThreads * V;
  static constexpr int kBytes = kPixels * kChannels;

  int64_t first;   // byte of the batch, and element of the interleaved image
  int64_t planar;  // element of the planar image
  int64_t pixels;  // of a sample
  int count;       // pixels of the tile
  bool interleaved, reverse, vector;

  __device__ __forceinline__ PixelTile(const Samples& samples, Layout layout, bool reversed,
                                       int64_t sample) {
    const int64_t begin = int64_t(blockIdx.x) * kPixels, left = samples.elements - begin;
    pixels = samples.elements;
    first = (sample * pixels + begin) * kChannels;
    planar = sample * pixels * kChannels + begin;
    count = int(left < kPixels ? left : kPixels);
    interleaved = layout == Layout::kInterleaved;
    reverse = reversed;
    vector = samples.aligned && count == kPixels;
  }

  __device__ __forceinline__ int64_t origin(int group) const {
    return interleaved ? first + group * kPixels : planar + group * pixels;
  }

  // Of a group's elements in this tile.
  __device__ __forceinline__ int at(int i) const {
    return vector ? int(threadIdx.x) * V + i : i * kTileThreads + int(threadIdx.x);
  }

  __device__ __forceinline__ bool has(int group, int i) const {
    return interleaved ? group * kPixels + at(i) < count * kChannels : at(i) < count;
  }

  // The byte of the tile that an element of a group belongs to.
  __device__ __forceinline__ int byte_of(int group, int i) const {
    const int element = interleaved ? group * kPixels + at(i) : at(i) * kChannels + group;
    const int channel = interleaved ? element % kChannels : group;
    return reverse ? element + 2 - 2 * channel : element;
  }

  template <class T>
  __device__ __forceinline__ Vector<T, V> load(const void* image, int group) const {
    const T* row = static_cast<const T*>(image) + origin(group);
    if (vector) return reinterpret_cast<const Vector<T, V>*>(row)[threadIdx.x];
    Vector<T, V> result;
#pragma unroll
    for (int i = 0; i < V; ++i) result.value[i] = has(group, i) ? row[at(i)] : T();
    return result;
  }

  template <class T>
  __device__ __forceinline__ void store(void* image, int group, const Vector<T, V>& values) const {
    T* row = static_cast<T*>(image) + origin(group);
    if (vector) {
      reinterpret_cast<Vector<T, V>*>(row)[threadIdx.x] = values;
      return;
    }
#pragma unroll
    for (int i = 0; i < V; ++i)
      if (has(group, i)) row[at(i)] = values.value[i];
  }
};

// --- kernels ----------------------------------------------------------------------------------

template <class T>
__global__ void __launch_bounds__(kTileThreads) pack_kernel(Pack io, Samples samples) {
  using A = accumulate_t<T>;
  constexpr int V = kVectorWidth<T>;
  ANSM_FAST_SHARED(Sixteen, buffer, (PixelTile<V>::kBytes / kVectorBytes + 1));
  for (int64_t sample = blockIdx.y; sample < samples.count; sample += gridDim.y) {
    const PixelTile<V> tile(samples, io.layout, io.reverse, sample);
    const uint8_t* bytes = io.bytes + tile.first;
    const int shift = shift_of(bytes);
    auto* staged = reinterpret_cast<uint8_t*>(&buffer[0]);
    copy_staged(staged, bytes - shift, shift, tile.count * kChannels);
    __syncthreads();
#pragma unroll 1  // a third of the registers
    for (int group = 0; group < kChannels; ++group) {
      Vector<T, V> out;
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const int level = tile.has(group, i) ? staged[shift + tile.byte_of(group, i)] : 0;
        out.value[i] = from<T>(fraction_of(A(level)));
      }
      tile.store(io.image.data, group, out);
    }
    __syncthreads();
  }
}

template <class T>
__global__ void __launch_bounds__(kTileThreads)
    unpack_kernel(Unpack io, SampleNumber budgets, Samples samples) {
  using A = accumulate_t<T>;
  constexpr int V = kVectorWidth<T>;
  ANSM_FAST_SHARED(Sixteen, buffer, (PixelTile<V>::kBytes / kVectorBytes + 1));
  for (int64_t sample = blockIdx.y; sample < samples.count; sample += gridDim.y) {
    const PixelTile<V> tile(samples, io.layout, io.reverse, sample);
    const double number = io.bounded ? budgets[sample] : 0.0;
    const A eps = io.bounded ? A(number) : A(INFINITY);
    const int budget = io.bounded ? whole_levels(number) : 255;
    uint8_t* bytes = io.bytes + tile.first;
    const int shift = shift_of(bytes);
    auto* staged = reinterpret_cast<uint8_t*>(&buffer[0]);
#pragma unroll 1  // a third of the registers
    for (int group = 0; group < kChannels; ++group) {
      const Vector<T, V> image = tile.template load<T>(io.image.data, group);
      Vector<T, V> noise = {};
      if (io.perturbation.data) noise = tile.template load<T>(io.perturbation.data, group);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const int level = moved_level(to<A>(image.value[i]), to<A>(noise.value[i]), eps, budget);
        if (tile.has(group, i)) staged[shift + tile.byte_of(group, i)] = uint8_t(level);
      }
    }
    __syncthreads();
    copy_staged(bytes - shift, staged, shift, tile.count * kChannels);
    __syncthreads();
  }
}

// --- launches ---------------------------------------------------------------------------------

// Interleaved samples that share their numbers are one run of pixels.
template <class T>
Samples samples_of(const Batch& batch, int64_t pixels, Layout layout, const Field* images,
                   int count) {
  const bool run = layout == Layout::kInterleaved && !batch.eps.numbers;
  Samples samples{run ? 1 : batch.samples, run ? batch.samples * pixels : pixels, true};
  for (int i = 0; i < count; ++i) {
    // A planar row is a channel's.
    const int64_t rows = layout == Layout::kPlanar ? samples.count * kChannels : samples.count;
    const int64_t elements =
        samples.count == 0 ? 0 : samples.elements * kChannels * samples.count / rows;
    samples.aligned = samples.aligned &&
                      (!images[i].data || rows_aligned(images[i], rows, elements, kVectorWidth<T>));
  }
  return samples;
}

template <class T>
dim3 grid_of(const Samples& samples) {
  return sample_grid(samples, PixelTile<kVectorWidth<T>>::kPixels);
}

// `io.table` is not used: the division costs less than reading the table from memory.
inline void launch_pack(const Pack& io, const Batch& batch, cudaStream_t stream) {
  if (batch.samples == 0 || io.pixels == 0) return;
  for_floating(io.image.type, [&](auto zero) {
    using T = decltype(zero);
    const Samples samples = samples_of<T>(batch, io.pixels, io.layout, &io.image, 1);
    ANSM_FAST_LAUNCH((pack_kernel<T>), grid_of<T>(samples), dim3(kTileThreads), stream, io,
                     samples);
  });
}

// `batch.eps` takes the place of `io.eps`.
inline void launch_unpack(const Unpack& io, const Batch& batch, cudaStream_t stream) {
  if (batch.samples == 0 || io.pixels == 0) return;
  for_floating(io.image.type, [&](auto zero) {
    using T = decltype(zero);
    const Field images[] = {io.image, io.perturbation};
    const Samples samples = samples_of<T>(batch, io.pixels, io.layout, images, 2);
    ANSM_FAST_LAUNCH((unpack_kernel<T>), grid_of<T>(samples), dim3(kTileThreads), stream, io,
                     batch.eps, samples);
  });
}

}  // namespace image_pack
}  // namespace gpu
}  // namespace ansm_fast
