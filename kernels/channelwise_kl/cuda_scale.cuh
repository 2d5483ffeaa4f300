// The backward of channel-wise KL on the device: the gradient was made in the forward.
#pragma once

#include "cuda_layers.cuh"

namespace ansm_fast {
namespace gpu {
namespace channelwise_kl {

constexpr int kScaleThreads = 256;
constexpr int kVectorsOfThread = 4;

// out = gradient * factor; `out` may be `gradient`. The factor is read on the device: one number,
// or one for each (sample, channel).
struct Scaling {
  const void* gradient = nullptr;
  void* out = nullptr;
  const void* factor = nullptr;
  bool wide_factor = false;  // float64, else float32
  bool uniform = true;
  bool channels_last = false;
  bool skip_one = false;  // touch nothing where the one factor is 1
  int64_t count = 0;      // elements
  int64_t pixels = 0;
  int64_t channels = 0;
  int64_t first_block = 0;
};

__device__ __forceinline__ double factor_of(const Scaling& io, int64_t index) {
  return io.wide_factor ? static_cast<const double*>(io.factor)[index]
                        : double(static_cast<const float*>(io.factor)[index]);
}

// V elements share a row where rows lie in one piece; else each has the factor of its channel.
template <class T, int V>
__global__ void __launch_bounds__(kScaleThreads) scale(Scaling io) {
  using A = accumulate_t<T>;
  const double all = io.uniform ? factor_of(io, 0) : 0.0;
  if (io.uniform && io.skip_one && all == 1) return;
  const int64_t start =
      (io.first_block + blockIdx.x) * (kScaleThreads * kVectorsOfThread) + threadIdx.x;
  A values[kVectorsOfThread][V];
#pragma unroll
  for (int k = 0; k < kVectorsOfThread; ++k) {
    const int64_t at = (start + k * kScaleThreads) * V;
    if (at < io.count) load<V>(static_cast<const T*>(io.gradient) + at, values[k]);
  }
#pragma unroll
  for (int k = 0; k < kVectorsOfThread; ++k) {
    const int64_t at = (start + k * kScaleThreads) * V;
    if (at >= io.count) break;
    if (io.uniform || !io.channels_last) {
      const A factor = A(io.uniform ? all : factor_of(io, at / io.pixels));
#pragma unroll
      for (int i = 0; i < V; ++i) values[k][i] *= factor;
    } else {
      const int64_t pixel = at / io.channels, sample = pixel / io.pixels;
      const int64_t row = sample * io.channels + (at - pixel * io.channels);
#pragma unroll
      for (int i = 0; i < V; ++i) values[k][i] *= A(factor_of(io, row + i));
    }
    store<V>(static_cast<T*>(io.out) + at, values[k]);
  }
}

}  // namespace channelwise_kl
}  // namespace gpu
}  // namespace ansm_fast
