// Partial results of chunks become those of rows, and rows become losses: in a fixed order, in
// double.
#pragma once

#include "../common/reduce.cuh"
#include "cuda_layers.cuh"

namespace ansm_fast {
namespace gpu {
namespace channelwise_kl {

constexpr int kCombineThreads = 256;

// Threads of a warp that share a row, a power of two.
__host__ __device__ inline int combine_lanes(int64_t chunks) {
  int lanes = 1;
  while (lanes < chunks && lanes < kWarp) lanes *= 2;
  return lanes;
}

inline int64_t combine_blocks(const Layer& layer) {
  return blocks_for(layer.rows(), kCombineThreads / combine_lanes(layer.chunks));
}

// Neighbouring lanes take neighbouring rows, those `kWarp / lanes` apart the chunks of one row.
struct CombineLane {
  int lanes, spread;
  int64_t row, chunk;
  bool inside;

  __device__ __forceinline__ CombineLane(const Layer& layer, int64_t block) {
    const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
    lanes = combine_lanes(layer.chunks);
    spread = kWarp / lanes;
    row = (block * (kCombineThreads / kWarp) + warp) * spread + lane % spread;
    inside = row < layer.rows();
    chunk = inside ? lane / spread : layer.chunks;
  }

  template <class A>
  __device__ __forceinline__ A maximum(A value) const {
    for (int offset = kWarp / 2; offset >= spread; offset /= 2)
      value = larger(value, __shfl_xor_sync(kWholeWarp, value, offset));
    return value;
  }
  __device__ __forceinline__ double sum(double value) const {
    for (int offset = kWarp / 2; offset >= spread; offset /= 2)
      value += __shfl_xor_sync(kWholeWarp, value, offset);
    return value;
  }
  __device__ __forceinline__ bool writes() const { return inside && chunk == 0; }
};

template <class A>
__global__ void __launch_bounds__(kCombineThreads) combine(Layers layers) {
  const Place place = place_of(layers, layers.first_block + blockIdx.x);
  const Layer& layer = layers.layer[place.layer];
  const CombineLane lane(layer, place.block);
  const A scale = A(layers.inverse_temperature);
  Statistics<A> row;
  row.max_first = row.max_second = kLowest<A>;
  for (int64_t chunk = lane.chunk; chunk < layer.chunks; chunk += lane.lanes) {
    row.max_first = larger(row.max_first, *partial<A>(layers, layer, 0, lane.row, chunk));
    row.max_second = larger(row.max_second, *partial<A>(layers, layer, 1, lane.row, chunk));
  }
  row.max_first = lane.maximum(row.max_first);
  row.max_second = lane.maximum(row.max_second);

  double sums[3] = {0, 0, 0};
  for (int64_t chunk = lane.chunk; chunk < layer.chunks; chunk += lane.lanes) {
    const A down_first = (*partial<A>(layers, layer, 0, lane.row, chunk) - row.max_first) * scale;
    const A down_second = (*partial<A>(layers, layer, 1, lane.row, chunk) - row.max_second) * scale;
    const double z_first = *partial<A>(layers, layer, kMaxima, lane.row, chunk);
    const double z_second = *partial<A>(layers, layer, kMaxima + 1, lane.row, chunk);
    const double difference = *partial<A>(layers, layer, kMaxima + 2, lane.row, chunk);
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
__global__ void __launch_bounds__(kCombineThreads) combine_smoothed(Layers layers) {
  const Place place = place_of(layers, layers.first_block + blockIdx.x);
  const Layer& layer = layers.layer[place.layer];
  const CombineLane lane(layer, place.block);
  double sums[3] = {0, 0, 0};
  for (int64_t chunk = lane.chunk; chunk < layer.chunks; chunk += lane.lanes) {
#pragma unroll
    for (int i = 0; i < 3; ++i)
      sums[i] += double(*partial<A>(layers, layer, kMaxima + i, lane.row, chunk));
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
  ANSM_FAST_SHARED(double, room, kLossThreads / kWarp);
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
  block_sum<kLossThreads>(sum, room);
  if (threadIdx.x == 0 && !loss.each)
    static_cast<Out*>(loss.out)[block] = Out(sum[0] / loss.divisor);
}

}  // namespace channelwise_kl
}  // namespace gpu
}  // namespace ansm_fast
