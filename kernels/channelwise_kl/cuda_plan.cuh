// Which kernels a layer takes, and the workspace of a call. README.md says why.
#pragma once

#include "cuda_columns.cuh"
#include "cuda_rows.cuh"
#include "cuda_split.cuh"

namespace ansm_fast {
namespace gpu {
namespace channelwise_kl {

// All layers of one element type. `plan` fills in their routes and the sizes of the workspace, in
// elements: `rows` of double, kStatistics * `rows` and kPartials * `chunks` of the accumulation
// type, the last two only where `chunks` is above 0.
struct Work {
  Layer* layers = nullptr;
  int64_t count = 0;
  ElementType type = ElementType::kFloat32;
  double inverse_temperature = 1;
  double alpha = 0;

  int64_t rows = 0;
  int64_t chunks = 0;
  double* kl = nullptr;
  void* statistics = nullptr;
  void* partials = nullptr;
};

// Elements of each map that a thread of the row kernels holds at most.
template <class T>
constexpr int kRowCount = sizeof(accumulate_t<T>) == 4 ? 16 : 8;
constexpr int kMinBlockThreads = 64;

// As many as leave the fewest of them without channels, but at least 8 (128 bytes where aligned).
inline int column_lanes(int64_t vectors, bool aligned) {
  int lanes = 1;
  while (lanes < vectors && lanes < kWarp) lanes *= 2;
  int best = lanes;
  for (; aligned && lanes >= 8; lanes /= 2)
    if (blocks_for(vectors, lanes) * lanes < blocks_for(vectors, best) * best) best = lanes;
  return best;
}

template <class T>
int64_t column_blocks(const Layer& layer) {
  const int width = layer.aligned ? kVectorWidth<T> : 1;
  return blocks_for(layer.channels, layer.lanes * width) * layer.samples * layer.chunks;
}

template <class T>
void plan_layer(Layer& layer) {
  constexpr int V = kVectorWidth<T>;
  layer.route = Route::kNone;
  layer.chunks = 0;
  if (layer.rows() == 0 || layer.pixels == 0) return;
  const int64_t neighbours = layer.channels_last ? layer.channels : layer.pixels;
  layer.aligned = neighbours % V == 0 && is_aligned(layer.first) && is_aligned(layer.second) &&
                  is_aligned(layer.grad_first) && is_aligned(layer.grad_second);
  if (layer.channels_last) {
    const int width = layer.aligned ? V : 1;
    layer.route = layer.aligned ? Route::kColumns : Route::kUnalignedColumns;
    layer.lanes = column_lanes(layer.channels / width, layer.aligned);
    const int pixels = layer.aligned ? kPixelsOfThread<V> : kPixelsOfThread<1>;
    layer.chunks = blocks_for(layer.pixels, kColumnThreads / layer.lanes * pixels);
    return;
  }
  if (layer.pixels > int64_t(kMaxBlockThreads<T>) * kRowCount<T>) {
    layer.route = Route::kSplit;
    layer.chunks = blocks_for(layer.pixels, kChunk<T>);
    return;
  }
  layer.route = layer.pixels <= kWarp * kRowCount<T> ? Route::kWarp : Route::kBlock;
  layer.threads = kMinBlockThreads;
  while (layer.threads * kRowCount<T> < layer.pixels) layer.threads *= 2;
}

inline void plan(Work& work) {
  work.rows = work.chunks = 0;
  for (int64_t i = 0; i < work.count; ++i) {
    Layer& layer = work.layers[i];
    switch (work.type) {
      case ElementType::kFloat64: plan_layer<double>(layer); break;
      case ElementType::kFloat16: plan_layer<Half>(layer); break;
      case ElementType::kBFloat16: plan_layer<BFloat16>(layer); break;
      default: plan_layer<float>(layer); break;
    }
    layer.first_row = work.rows;
    layer.first_chunk = work.chunks;
    work.rows += layer.padded_rows();
    work.chunks += layer.partials();
  }
}

}  // namespace channelwise_kl
}  // namespace gpu
}  // namespace ansm_fast
