// Which layers a launch works on: a table by value, so that a list of maps is one launch for each
// kind of kernel.
#pragma once

#include "../common/cuda.cuh"
#include "../common/vector.cuh"
#include "cuda_element.cuh"

namespace ansm_fast {
namespace gpu {
namespace channelwise_kl {

constexpr int kMaxLayers = 16;  // of one launch; longer lists are cut

// The kernels that make a layer's gradients, chosen by its layout and the length of its rows.
enum class Route : uint8_t {
  kNone,  // no element
  kWarp,
  kBlock,
  kSplit,
  kColumns,
  kUnalignedColumns
};

// KL(first || second) of rows normalized over `pixels`; the caller swaps input and target for the
// other direction. Gradients of the sum over rows, times `gradient_scale` and, where there is one,
// the number `factor` on the device; null where not wanted.
struct Layer {
  const void* first = nullptr;
  const void* second = nullptr;
  void* grad_first = nullptr;
  void* grad_second = nullptr;
  int64_t samples = 0;
  int64_t channels = 0;
  int64_t pixels = 0;
  double gradient_scale = 1;
  const void* factor = nullptr;
  bool factor_is_double = false;  // float64, else float32
  bool channels_last = false;

  // What `plan` decides.
  Route route = Route::kNone;
  bool aligned = false;     // vectors start at multiples of 16 bytes in every row
  int lanes = 0;            // threads across channels, for channels-last maps
  int threads = 0;          // of the block of a row
  int64_t chunks = 0;       // that a row is cut into
  int64_t first_row = 0;    // of its rows in what holds one value for each row
  int64_t first_chunk = 0;  // of its rows and chunks in what holds one value for each of these
  int64_t first_block = 0;  // of the launch

  __host__ __device__ int64_t rows() const { return samples * channels; }
  // Padded, so that what holds a value for each row or chunk has every run at whole sectors.
  __host__ __device__ int64_t padded_rows() const { return (rows() + 15) / 16 * 16; }
  __host__ __device__ int64_t padded_chunks() const { return (chunks + 7) / 8 * 8; }
  __host__ __device__ int64_t partials() const {
    return channels_last ? chunks * padded_rows() : rows() * padded_chunks();
  }

  // Where a row lies among `padded_rows`. A thread with eight rows writes them as two vectors: the
  // first halves of all such threads are neighbours, and so are the second halves.
  __device__ __forceinline__ int64_t slot_of(int64_t row) const {
    return (row & 4 ? padded_rows() / 2 : 0) + (row >> 3) * 4 + (row & 3);
  }
  __device__ __forceinline__ int64_t row_in(int64_t slot) const {
    const int64_t half = padded_rows() / 2;
    const int64_t among = slot < half ? slot : slot - half;
    return (among >> 2) * 8 + (slot < half ? 0 : 4) + (among & 3);
  }
};

struct Layers {
  Layer layer[kMaxLayers];
  int count = 0;
  double inverse_temperature = 1;
  double alpha = 0;
  int64_t first_block = 0;  // of a grid that was cut
  int64_t blocks = 0;       // of all grids together

  double* kl = nullptr;        // of each row
  void* statistics = nullptr;  // kStatistics arrays of `rows`
  int64_t rows = 0;
  void* partials = nullptr;  // kPartials arrays of `chunks`
  int64_t chunks = 0;
};

// Of a chunk: maxima of first and second, then the sums of `finish` or of `add_smoothed`.
constexpr int kPartials = 5;
constexpr int kMaxima = 2;

// The layer of a block, and the block's number in it.
struct Place {
  int layer;
  int64_t block;
};

__device__ __forceinline__ Place place_of(const Layers& layers, int64_t block) {
  int index = 0;
  while (index + 1 < layers.count && block >= layers.layer[index + 1].first_block) ++index;
  return {index, block - layers.layer[index].first_block};
}

// In double: a factor that undoes a loss's scale may be far from 1.
__device__ __forceinline__ double gradient_scale_of(const Layer& layer) {
  if (!layer.factor) return layer.gradient_scale;
  return layer.gradient_scale * (layer.factor_is_double ? *static_cast<const double*>(layer.factor)
                                                        : *static_cast<const float*>(layer.factor));
}

template <class A>
__device__ __forceinline__ Constants<A> constants_of(const Layers& layers, const Layer& layer) {
  return {A(layers.inverse_temperature), A(layers.alpha), A(gradient_scale_of(layer)),
          layers.alpha > 0};
}

// Where a chunk's partial results lie, so that neighbouring threads of `combine` read neighbours:
// of one row in planar maps, of one chunk in channels-last ones.
__device__ __forceinline__ int64_t planar_place(const Layer& layer, int64_t row, int64_t chunk) {
  return layer.first_chunk + row * layer.padded_chunks() + chunk;
}
__device__ __forceinline__ int64_t column_place(const Layer& layer, int64_t row, int64_t chunk) {
  return layer.first_chunk + chunk * layer.padded_rows() + layer.slot_of(row);
}

template <class A>
__device__ __forceinline__ A* partial(const Layers& layers, int which, int64_t place) {
  return static_cast<A*>(layers.partials) + which * layers.chunks + place;
}

template <class A>
__device__ __forceinline__ A* statistic(const Layers& layers, const Layer& layer, int which,
                                        int64_t row) {
  return static_cast<A*>(layers.statistics) + which * layers.rows + layer.first_row +
         layer.slot_of(row);
}

template <class A>
__device__ __forceinline__ Statistics<A> statistics_of(const Layers& layers, const Layer& layer,
                                                       int64_t row) {
  Statistics<A> result;
  result.max_first = *statistic<A>(layers, layer, 0, row);
  result.max_second = *statistic<A>(layers, layer, 1, row);
  result.inverse_first = *statistic<A>(layers, layer, 2, row);
  result.inverse_second = *statistic<A>(layers, layer, 3, row);
  result.mean_first = *statistic<A>(layers, layer, 4, row);
  result.mean_second = *statistic<A>(layers, layer, 5, row);
  return result;
}

}  // namespace channelwise_kl
}  // namespace gpu
}  // namespace ansm_fast
