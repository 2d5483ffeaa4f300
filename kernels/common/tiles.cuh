// Samples cut into tiles, one for a block to take at a time, and sums over samples in two stages:
// over pieces of fixed length, then over a sample's pieces, in an order that no device changes.
#pragma once

#include <utility>

#include "reduce.cuh"
#include "vector.cuh"

namespace ansm_fast {
namespace gpu {

constexpr int kTileThreads = 256;
constexpr int64_t kMaxGridRows = 65535;

// Elements of a sample that give one partial sum.
constexpr int64_t kPieceElements = 4096;

// The same of all samples together: they double until there are no more pieces than one block can
// add up.
constexpr int64_t kMaxPieces = 8192;

inline int64_t piece_length(int64_t elements) {
  int64_t length = kPieceElements;
  while (blocks_for(elements, length) > kMaxPieces) length *= 2;
  return length;
}

// `count` samples of `elements`, one after the other. `aligned`: every tensor's every tile starts
// where its vectors may.
struct Samples {
  int64_t count = 0;
  int64_t elements = 0;
  bool aligned = false;
};

// A number for all samples, or one for each in device memory.
struct SampleNumber {
  double number = 0;
  const double* numbers = nullptr;
  int64_t step = 0;  // 0: one for all

  __device__ __forceinline__ double operator[](int64_t sample) const {
    return numbers ? numbers[sample * step] : number;
  }
};

// Whether every sample of the field starts where vectors of `width` elements may.
inline bool rows_aligned(const Field& field, int64_t samples, int64_t elements, int width) {
  const int64_t bytes = width * bytes_of(field.type);
  return bytes <= kVectorBytes && is_aligned(field.data, int(bytes)) &&
         (samples == 1 || elements % width == 0);
}

// Columns of blocks share a sample, rows of them are samples (with a loop where they are too many).
inline dim3 sample_grid(const Samples& samples, int64_t elements_per_block) {
  const int64_t rows = samples.count < kMaxGridRows ? samples.count : kMaxGridRows;
  return dim3(unsigned(blocks_for(samples.elements, elements_per_block)), unsigned(rows));
}

// function(a value of the floating type), for its type alone.
template <class Function>
void for_floating(ElementType type, const Function& function) {
  switch (type) {
    case ElementType::kFloat32: return function(float());
    case ElementType::kFloat64: return function(double());
    case ElementType::kFloat16: return function(Half());
    case ElementType::kBFloat16: return function(BFloat16());
    default: return;
  }
}

// function(a value of the type of `fields[0]`, a constant: the elements of a vector, the samples).
// The largest element of the fields that there are takes at most 16 bytes, so that each access of a
// warp is without gaps.
template <size_t N, class Function>
void for_vectors(const Field (&fields)[N], int64_t count, int64_t elements,
                 const Function& function) {
  int64_t largest = 0;
  for (const Field& field : fields)
    if (field.data && bytes_of(field.type) > largest) largest = bytes_of(field.type);
  const auto with = [&](auto zero, auto width) {
    Samples samples{count, elements, true};
    for (const Field& field : fields)
      if (field.data)
        samples.aligned =
            samples.aligned && rows_aligned(field, count, elements, decltype(width)::value);
    function(zero, width, samples);
  };
  for_floating(fields[0].type, [&](auto zero) {
    constexpr int kWidth = kVectorWidth<decltype(zero)>;
    if constexpr (kWidth == 8) {
      if (largest > kVectorBytes / kWidth)
        return with(zero, std::integral_constant<int, kWidth / 2>());
    }
    with(zero, std::integral_constant<int, kWidth>());
  });
}

// V elements for each thread of a block. In a whole, aligned tile they are neighbors and move in
// one instruction; in any other, a thread's elements lie a block's width apart, so that a warp's
// accesses are contiguous all the same.
template <int V>
struct Tile {
  static constexpr int kElements = kTileThreads * V;

  int64_t origin;  // its first element, counted through all samples
  int count;       // its elements
  bool vector;

  __device__ __forceinline__ Tile(const Samples& samples, int64_t sample, int64_t begin) {
    const int64_t left = samples.elements - begin;
    origin = sample * samples.elements + begin;
    count = int(left < kElements ? left : kElements);
    vector = samples.aligned && count == kElements;
  }

  __device__ __forceinline__ int at(int i) const {
    return vector ? int(threadIdx.x) * V + i : i * kTileThreads + int(threadIdx.x);
  }

  __device__ __forceinline__ bool has(int i) const { return vector || at(i) < count; }

  // Zeros where the tile has no element.
  template <class T>
  __device__ __forceinline__ Vector<T, V> load(const void* tensor) const {
    const T* tile = static_cast<const T*>(tensor) + origin;
    Vector<T, V> result;
    if constexpr (sizeof(T) * V <= kVectorBytes) {
      if (vector) return reinterpret_cast<const Vector<T, V>*>(tile)[threadIdx.x];
    }
#pragma unroll
    for (int i = 0; i < V; ++i) result.value[i] = has(i) ? tile[at(i)] : T();
    return result;
  }

  template <class T>
  __device__ __forceinline__ void store(void* tensor, const Vector<T, V>& values) const {
    T* tile = static_cast<T*>(tensor) + origin;
    if (vector) {
      reinterpret_cast<Vector<T, V>*>(tile)[threadIdx.x] = values;
      return;
    }
#pragma unroll
    for (int i = 0; i < V; ++i)
      if (has(i)) tile[at(i)] = values.value[i];
  }
};

// Numbers of a tensor of T, or of float32 where that is no T.
template <class T, class A, int V>
__device__ __forceinline__ void load_numbers(const Field& field, const Tile<V>& tile, A (&out)[V]) {
  const auto convert = [&](const auto& loaded) {
#pragma unroll
    for (int i = 0; i < V; ++i) out[i] = to<A>(loaded.value[i]);
  };
  if (field.type == TypeOf<T>::value)
    convert(tile.template load<T>(field.data));
  else
    convert(tile.template load<float>(field.data));
}

template <class T, class A, int V>
__device__ __forceinline__ void store_numbers(const Field& field, const Tile<V>& tile,
                                              const A (&values)[V]) {
  const auto convert = [&](auto zero) {
    using Out = decltype(zero);
    Vector<Out, V> out;
#pragma unroll
    for (int i = 0; i < V; ++i) out.value[i] = from<Out>(values[i]);
    tile.store(field.data, out);
  };
  if (field.type == TypeOf<T>::value)
    convert(T());
  else
    convert(float());
}

// Partial sums lie [sum][sample][piece]; thread 0 writes those of this block's piece.
template <int kCount, class A>
__device__ __forceinline__ void write_partials(A (&sums)[kCount], A* buffer, int64_t sample,
                                               int64_t samples, double* partials) {
  block_sum<kTileThreads>(sums, buffer);
  if (threadIdx.x != 0) return;
#pragma unroll
  for (int k = 0; k < kCount; ++k)
    partials[(k * samples + sample) * int64_t(gridDim.x) + blockIdx.x] = double(sums[k]);
}

constexpr int kBufferPerSum = kTileThreads / kWarp;

// One block for a sample: adds its pieces' sums and gives them to finish(sample, sums).
template <int kCount, class Finish>
__global__ void __launch_bounds__(kTileThreads)
    combine_kernel(const double* partials, int64_t samples, int64_t pieces, Finish finish) {
  ANSM_FAST_SHARED(double, buffer, (kCount * kBufferPerSum));
  for (int64_t sample = blockIdx.x; sample < samples; sample += gridDim.x) {
    double sums[kCount] = {};
    for (int64_t piece = threadIdx.x; piece < pieces; piece += kTileThreads) {
#pragma unroll
      for (int k = 0; k < kCount; ++k) sums[k] += partials[(k * samples + sample) * pieces + piece];
    }
    block_sum<kTileThreads>(sums, buffer);
    if (threadIdx.x == 0) finish(sample, sums);
    __syncthreads();
  }
}

inline int64_t pieces_of(int64_t elements) { return blocks_for(elements, kPieceElements); }

template <int kCount, class Finish>
void combine(const double* partials, int64_t samples, int64_t pieces, const Finish& finish,
             cudaStream_t stream) {
  if (samples == 0) return;
  const int64_t blocks = samples < kMaxBlocks ? samples : kMaxBlocks;
  ANSM_FAST_LAUNCH((combine_kernel<kCount, Finish>), dim3(unsigned(blocks)), dim3(kTileThreads),
                   stream, partials, samples, pieces, finish);
}

}  // namespace gpu
}  // namespace ansm_fast
