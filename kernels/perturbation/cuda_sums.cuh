// Sums over each sample, and the factors that follow from them: what l2 and momentum need before
// the pass that writes. Products and sums are in double, as on the host: the squares of a small
// gradient are below float's range.
#pragma once

#include "../common/tiles.cuh"
#include "cuda_element.cuh"
#include "scales.h"

namespace ansm_fast {
namespace gpu {
namespace perturbation {

enum class FieldSum : uint8_t { kAbsolute, kSquared };

// take(tile) for each tile of this block's piece of the sample.
template <int V, class Take>
__device__ __forceinline__ void for_each_tile(const Samples& samples, int64_t sample,
                                              const Take& take) {
  const int64_t begin = int64_t(blockIdx.x) * kPieceElements;
  const int64_t stop = begin + kPieceElements;
  const int64_t end = stop < samples.elements ? stop : samples.elements;
  for (int64_t at = begin; at < end; at += Tile<V>::kElements) take(Tile<V>(samples, sample, at));
}

template <class T>
__global__ void __launch_bounds__(kTileThreads)
    field_sum_kernel(const void* field, FieldSum kind, Samples samples, double* partials) {
  constexpr int V = kVectorWidth<T>;
  ANSM_FAST_SHARED(double, buffer, kBufferPerSum);
  for (int64_t sample = blockIdx.y; sample < samples.count; sample += gridDim.y) {
    double sum[1] = {};
    for_each_tile<V>(samples, sample, [&](const Tile<V>& tile) {
      const Vector<T, V> values = tile.template load<T>(field);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const double value = to<double>(values.value[i]);
        sum[0] += kind == FieldSum::kAbsolute ? fabs(value) : value * value;
      }
    });
    write_partials(sum, buffer, sample, samples.count, partials);
    __syncthreads();
  }
}

// Perturbation times the gradient that the clamp lets pass.
template <class T>
__global__ void __launch_bounds__(kTileThreads)
    along_sum_kernel(ProjectionGradient io, Samples samples, Range<accumulate_t<T>> range,
                     const ProjectionScale* scales, double* partials) {
  using A = accumulate_t<T>;
  constexpr int V = kVectorWidth<T>;
  ANSM_FAST_SHARED(double, buffer, kBufferPerSum);
  for (int64_t sample = blockIdx.y; sample < samples.count; sample += gridDim.y) {
    const A shrink = A(scales[sample].offset);
    double sum[1] = {};
    for_each_tile<V>(samples, sample, [&](const Tile<V>& tile) {
      const Vector<T, V> image = tile.template load<T>(io.image.data);
      const Vector<T, V> noise = tile.template load<T>(io.perturbation.data);
      const Vector<T, V> grad = tile.template load<T>(io.grad_output.data);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const A p = to<A>(noise.value[i]), value = to<A>(image.value[i]) + p * shrink;
        const bool passes = value >= range.min && value <= range.max;
        sum[0] += passes ? double(p) * to<double>(grad.value[i]) : 0.0;
      }
    });
    write_partials(sum, buffer, sample, samples.count, partials);
    __syncthreads();
  }
}

constexpr int kStepSums = 7;

template <class T>
__global__ void __launch_bounds__(kTileThreads)
    step_sums_kernel(Step step, Samples samples, double* partials) {
  constexpr int V = kVectorWidth<T>;
  ANSM_FAST_SHARED(double, buffer, (kStepSums * kBufferPerSum));
  for (int64_t sample = blockIdx.y; sample < samples.count; sample += gridDim.y) {
    double sums[kStepSums] = {};
    for_each_tile<V>(samples, sample, [&](const Tile<V>& tile) {
      const Vector<T, V> adv = tile.template load<T>(step.adv.data);
      const Vector<T, V> grad = tile.template load<T>(step.grad.data);
      const Vector<T, V> image = tile.template load<T>(step.image.data);
      Vector<T, V> momentum = {};
      if (step.momentum.data) momentum = tile.template load<T>(step.momentum.data);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const double g = to<double>(grad.value[i]), m = to<double>(momentum.value[i]);
        const double d = to<double>(adv.value[i]) - to<double>(image.value[i]);
        sums[0] += fabs(g);
        sums[1] = fma(g, g, sums[1]);
        sums[4] = fma(g, d, sums[4]);
        sums[6] = fma(d, d, sums[6]);
        if (step.momentum.data) {
          sums[2] = fma(g, m, sums[2]);
          sums[3] = fma(m, m, sums[3]);
          sums[5] = fma(m, d, sums[5]);
        }
      }
    });
    write_partials(sums, buffer, sample, samples.count, partials);
    __syncthreads();
  }
}

// --- a sample's factors -----------------------------------------------------------------------

struct FinishNorm {
  SampleNumber eps;
  double* squared;
  ProjectionScale* scales;

  __device__ void operator()(int64_t sample, const double (&sums)[1]) const {
    squared[sample] = sums[0];
    scales[sample] = projection_scale({sums[0], 0}, eps[sample]);
  }
};

struct FinishAlong {
  SampleNumber eps;
  const double* squared;
  ProjectionScale* scales;

  __device__ void operator()(int64_t sample, const double (&sums)[1]) const {
    scales[sample] = projection_scale({squared[sample], sums[0]}, eps[sample]);
  }
};

template <int kCount>
struct FinishStep {
  SampleNumber alpha, eps;
  Norm norm;
  bool momentum;
  double decay;
  double elements;
  StepScale* scales;

  __device__ void operator()(int64_t sample, const double (&sums)[kCount]) const {
    StepSums s;
    s.absolute_grad = sums[0] / elements;  // the mean, as the reference has it
    if constexpr (kCount == kStepSums) {
      s.grad_grad = sums[1];
      s.grad_momentum = sums[2];
      s.momentum_momentum = sums[3];
      s.grad_offset = sums[4];
      s.momentum_offset = sums[5];
      s.offset_offset = sums[6];
    }
    Limits limits;
    limits.alpha = alpha[sample];
    limits.eps = eps[sample];
    const StepScale scale = step_scale(s, limits, norm, momentum, decay);
    scales[sample].grad = scale.grad;
    scales[sample].direction = scale.direction;
    scales[sample].offset = scale.offset;
  }
};

}  // namespace perturbation
}  // namespace gpu
}  // namespace ansm_fast
