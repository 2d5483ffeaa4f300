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
// other direction. Gradients of the sum over rows, times `gradient_scale`; null where not wanted.
struct Layer {
  const void* first = nullptr;
  const void* second = nullptr;
  void* grad_first = nullptr;
  void* grad_second = nullptr;
  int64_t samples = 0;
  int64_t channels = 0;
  int64_t pixels = 0;
  double gradient_scale = 1;
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
  // Rows of one chunk among the partial results, padded so that vectors of them are aligned.
  __host__ __device__ int64_t padded_rows() const { return (rows() + 7) / 8 * 8; }
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

template <class A>
__device__ __forceinline__ Constants<A> constants_of(const Layers& layers, const Layer& layer) {
  return {A(layers.inverse_temperature), A(layers.alpha), A(layer.gradient_scale),
          layers.alpha > 0};
}

template <class A>
__device__ __forceinline__ A* partial(const Layers& layers, const Layer& layer, int which,
                                      int64_t row, int64_t chunk) {
  return static_cast<A*>(layers.partials) + which * layers.chunks + layer.first_chunk +
         chunk * layer.padded_rows() + row;
}

template <class A>
__device__ __forceinline__ A* statistic(const Layers& layers, const Layer& layer, int which,
                                        int64_t row) {
  return static_cast<A*>(layers.statistics) + which * layers.rows + layer.first_row + row;
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
