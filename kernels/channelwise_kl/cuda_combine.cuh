// Partial results of chunks become those of rows, and rows become losses: in a fixed order, in
// double.
#pragma once

#include "../common/reduce.cuh"
#include "cuda_layers.cuh"

namespace ansm_fast {
namespace gpu {
namespace channelwise_kl {

constexpr int kCombineThreads = 256;

// Threads that share a row, a power of two.
__host__ __device__ inline int combine_lanes(int64_t chunks) {
  int lanes = 1;
  while (lanes < chunks && lanes < kWarp) lanes *= 2;
  return lanes;
}

inline int64_t combine_blocks(const Layer& layer) {
  return blocks_for(layer.padded_rows(), kCombineThreads / combine_lanes(layer.chunks));
}

// Neighbouring threads take neighbours in memory (see `partial`): chunks of one row, or rows of one
// chunk. Sums are made among the lanes of a warp, or through `buffer` with an element for each
// thread.
struct CombineLane {
  int lanes, rows;  // rows of the block
  bool columns;
  int64_t row, chunk;
  bool inside;
  double* buffer;

  __device__ __forceinline__ CombineLane(const Layer& layer, int64_t block, double* shared) {
    const int thread = int(threadIdx.x);
    lanes = combine_lanes(layer.chunks);
    rows = kCombineThreads / lanes;
    columns = layer.channels_last;
    row = block * rows + (columns ? thread % rows : thread / lanes);
    if (columns) row = layer.row_in(row);
    inside = row < layer.rows();
    chunk = columns ? thread / rows : thread % lanes;
    if (!inside) chunk = layer.chunks;
    buffer = shared;
  }

  template <bool kMaximum>
  __device__ __forceinline__ double all(double value) const {
    if (!columns) {
      for (int offset = lanes / 2; offset > 0; offset /= 2) {
        const double other = __shfl_xor_sync(kWholeWarp, value, offset);
        value = kMaximum ? larger(value, other) : value + other;
      }
      return value;
    }
    const int thread = int(threadIdx.x);
    __syncthreads();
    buffer[thread] = value;
    for (int half = kCombineThreads / 2; half >= rows; half /= 2) {
      __syncthreads();
      if (thread < half)
        buffer[thread] = kMaximum ? larger(buffer[thread], buffer[thread + half])
                                  : buffer[thread] + buffer[thread + half];
    }
    __syncthreads();
    return buffer[thread % rows];
  }
  template <class A>
  __device__ __forceinline__ A maximum(A value) const {
    return A(all<true>(double(value)));
  }
  __device__ __forceinline__ double sum(double value) const { return all<false>(value); }
  __device__ __forceinline__ int64_t place(const Layer& layer, int64_t of_chunk) const {
    return columns ? column_place(layer, row, of_chunk) : planar_place(layer, row, of_chunk);
  }
  __device__ __forceinline__ bool writes() const { return inside && chunk == 0; }
};

template <class A>
__global__ void __launch_bounds__(kCombineThreads, 2) combine(Layers layers) {
  ANSM_FAST_SHARED(double, buffer, kCombineThreads);
  const Place place = place_of(layers, layers.first_block + blockIdx.x);
  const Layer& layer = layers.layer[place.layer];
  const CombineLane lane(layer, place.block, buffer);
  const A scale = A(layers.inverse_temperature);
  Statistics<A> row;
  row.max_first = row.max_second = kLowest<A>;
  for (int64_t chunk = lane.chunk; chunk < layer.chunks; chunk += lane.lanes) {
    const int64_t at_chunk = lane.place(layer, chunk);
    row.max_first = larger(row.max_first, *partial<A>(layers, 0, at_chunk));
    row.max_second = larger(row.max_second, *partial<A>(layers, 1, at_chunk));
  }
  row.max_first = lane.maximum(row.max_first);
  row.max_second = lane.maximum(row.max_second);

  double sums[3] = {0, 0, 0};
  for (int64_t chunk = lane.chunk; chunk < layer.chunks; chunk += lane.lanes) {
    const int64_t at_chunk = lane.place(layer, chunk);
    const A down_first = (*partial<A>(layers, 0, at_chunk) - row.max_first) * scale;
    const A down_second = (*partial<A>(layers, 1, at_chunk) - row.max_second) * scale;
    const double z_first = *partial<A>(layers, kMaxima, at_chunk);
    const double z_second = *partial<A>(layers, kMaxima + 1, at_chunk);
    const double difference = *partial<A>(layers, kMaxima + 2, at_chunk);
    const double factor = exponential(down_first);
    const double moved = weighted(z_first, double(down_first - down_second));
    sums[0] += factor * z_first;
    sums[1] += double(exponential(down_second)) * z_second;
    sums[2] += weighted(factor, difference + moved);
  }
#pragma unroll
  for (int i = 0; i < 3; ++i) sums[i] = lane.sum(sums[i]);
  const double kl = finish(sums, row);
  if (!lane.writes()) return;
  layers.kl[layer.first_row + lane.row] = kl;
  *statistic<A>(layers, layer, 0, lane.row) = row.max_first;
  *statistic<A>(layers, layer, 1, lane.row) = row.max_second;
  *statistic<A>(layers, layer, 2, lane.row) = row.inverse_first;
  *statistic<A>(layers, layer, 3, lane.row) = row.inverse_second;
  *statistic<A>(layers, layer, 4, lane.row) = row.mean_first;
  *statistic<A>(layers, layer, 5, lane.row) = row.mean_second;
}

template <class A>
__global__ void __launch_bounds__(kCombineThreads, 2) combine_smoothed(Layers layers) {
  ANSM_FAST_SHARED(double, buffer, kCombineThreads);
  const Place place = place_of(layers, layers.first_block + blockIdx.x);
  const Layer& layer = layers.layer[place.layer];
  const CombineLane lane(layer, place.block, buffer);
  double sums[3] = {0, 0, 0};
  for (int64_t chunk = lane.chunk; chunk < layer.chunks; chunk += lane.lanes) {
    const int64_t at_chunk = lane.place(layer, chunk);
#pragma unroll
    for (int i = 0; i < 3; ++i) sums[i] += double(*partial<A>(layers, kMaxima + i, at_chunk));
  }
#pragma unroll
  for (int i = 0; i < 3; ++i) sums[i] = lane.sum(sums[i]);
  if (!lane.writes()) return;
  layers.kl[layer.first_row + lane.row] = sums[0];
  *statistic<A>(layers, layer, 4, lane.row) = A(sums[1]);
  *statistic<A>(layers, layer, 5, lane.row) = A(sums[2]);
}

constexpr int kLossThreads = 256;
constexpr int64_t kRowsAtOnce = 8192;

// out = sum of `values` / divisor; where there are several blocks, out[block] of their share; with
// `each`, out[i] = values[i]. Null for zeros.
struct Loss {
  const double* values = nullptr;
  void* out = nullptr;
  int64_t count = 0;
  int64_t per_block = 0;
  double divisor = 1;
  bool each = false;
  int64_t first_block = 0;
};

struct Losses {
  Loss loss[kMaxLayers];
  int count = 0;
  int64_t first_block = 0;
  int64_t blocks = 0;
};

template <class Out>
__global__ void __launch_bounds__(kLossThreads) losses_of_rows(Losses losses) {
  ANSM_FAST_SHARED(double, buffer, kLossThreads / kWarp);
  const int64_t number = losses.first_block + blockIdx.x;
  int index = 0;
  while (index + 1 < losses.count && number >= losses.loss[index + 1].first_block) ++index;
  const Loss& loss = losses.loss[index];
  const int64_t block = number - loss.first_block, begin = block * loss.per_block;
  const int64_t end = begin + loss.per_block < loss.count ? begin + loss.per_block : loss.count;
  double sum[1] = {0};
  for (int64_t i = begin + threadIdx.x; i < end; i += kLossThreads) {
    const double value = loss.values ? loss.values[i] : 0.0;
    if (loss.each) static_cast<Out*>(loss.out)[i] = Out(value);
    sum[0] += value;
  }
  block_sum<kLossThreads>(sum, buffer);
  if (threadIdx.x == 0 && !loss.each)
    static_cast<Out*>(loss.out)[block] = Out(sum[0] / loss.divisor);
}

}  // namespace channelwise_kl
}  // namespace gpu
}  // namespace ansm_fast
