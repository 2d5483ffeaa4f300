// The backward of channel-wise KL on the device: the gradient was made in the forward.
#pragma once

#include "cuda_columns.cuh"

namespace ansm_fast {
namespace gpu {
namespace channelwise_kl {

constexpr int kScaleThreads = 256;
constexpr int kVectorsOfThread = 4;

// layer.grad_first = layer.first * factor, in place where they are the same. The factor is read on
// the device: one number, or one for each (sample, channel).
struct Scaling {
  Layer layer;
  const void* factor = nullptr;
  bool factor_is_double = false;  // float64, else float32
  bool uniform = true;
  bool skip_one = false;  // touch nothing where the one factor is 1
  int64_t first_block = 0;
  int64_t blocks = 0;
};

__device__ __forceinline__ double factor_of(const Scaling& io, int64_t index) {
  return io.factor_is_double ? static_cast<const double*>(io.factor)[index]
                             : double(static_cast<const float*>(io.factor)[index]);
}

// One factor for all, or for all V elements of a vector: those of one row.
template <class T, int V>
__global__ void __launch_bounds__(kScaleThreads) scale_rows(Scaling io) {
  using A = accumulate_t<T>;
  const double all = io.uniform ? factor_of(io, 0) : 0.0;
  if (io.uniform && io.skip_one && all == 1) return;
  const int64_t count = io.layer.rows() * io.layer.pixels;
  const int64_t start =
      (io.first_block + blockIdx.x) * (kScaleThreads * kVectorsOfThread) + threadIdx.x;
  A values[kVectorsOfThread][V];
#pragma unroll
  for (int k = 0; k < kVectorsOfThread; ++k) {
    const int64_t place = (start + k * kScaleThreads) * V;
    if (place < count) load<V>(at<T>(io.layer.first, place), values[k]);
  }
#pragma unroll
  for (int k = 0; k < kVectorsOfThread; ++k) {
    const int64_t place = (start + k * kScaleThreads) * V;
    if (place >= count) break;
    const A factor = A(io.uniform ? all : factor_of(io, place / io.layer.pixels));
#pragma unroll
    for (int i = 0; i < V; ++i) values[k][i] *= factor;
    store<V>(at<T>(io.layer.grad_first, place), values[k]);
  }
}

// V neighbouring factors, in pieces of at most 16 bytes.
template <int V, class A, class Factor>
__device__ __forceinline__ void load_factors(const Factor* source, A (&factors)[V]) {
  constexpr int kPiece = V < kVectorWidth<Factor> ? V : kVectorWidth<Factor>;
#pragma unroll
  for (int i = 0; i < V; i += kPiece) {
    A piece[kPiece];
    load<kPiece>(source + i, piece);
#pragma unroll
    for (int j = 0; j < kPiece; ++j) factors[i + j] = piece[j];
  }
}

// A factor for each channel, where channels are neighbours in memory.
template <class T, int V>
__global__ void __launch_bounds__(kColumnThreads) scale_columns(Scaling io) {
  using A = accumulate_t<T>;
  const Column<T, V> column(io.layer, io.first_block + blockIdx.x);
  if (!column.has_channel(io.layer)) return;
  A factor[V];
  if (io.factor_is_double)
    load_factors(at<double>(io.factor, column.row), factor);
  else
    load_factors(at<float>(io.factor, column.row), factor);
  for (int64_t pixel = column.begin; pixel < column.end; pixel += column.step) {
    A values[V];
    load<V>(at<T>(io.layer.first, column.at_pixel(pixel)), values);
#pragma unroll
    for (int i = 0; i < V; ++i) values[i] *= factor[i];
    store<V>(at<T>(io.layer.grad_first, column.at_pixel(pixel)), values);
  }
}

}  // namespace channelwise_kl
}  // namespace gpu
}  // namespace ansm_fast
