// The gradient of both branches, from the sums of the forward.
#pragma once

#include "cuda_pixel.cuh"

namespace ansm_fast {
namespace gpu {
namespace dual_mask {

struct Gradient {
  const void* grad_output = nullptr;
  bool is_double = false;  // grad_output: float64, else float32
  bool each = false;       // one for each sample
  Field out[kMaxBranches];
};

__device__ __forceinline__ Sums sums_at(const double* sums, int64_t index) {
  const double* s = sums + index * kSums;
  return {s[0], s[1], s[2], s[3], s[4]};
}

template <class A>
__device__ __forceinline__ A pixel_gradient(A z, A y, A t, const A* c) {
  const A bce = c[0], base = c[1], slope = c[2], positive = c[3];
  const Logistic<A> l = logistic(z, decay_of(z));
  // p [bce (1 - t) + (1 - p) (base - slope y)] - (1 - p) bce pos_weight t
  A g = multiply_add(-bce, t, bce);
  g = multiply_add(l.complement, multiply_add(-slope, y, base), g);
  return multiply_add(l.probability, g, -positive * t * l.complement);
}

template <class T, int V>
__global__ void __launch_bounds__(kTileThreads, kBlocksPerProcessor<V>)
    backward_kernel(Inputs in, Batch batch, Samples samples, Gradient gradient) {
  using A = accumulate_t<T>;
  constexpr int kNumbers = 4;  // Coefficients, and the weight of the positive part
  ANSM_FAST_SHARED(A, shared, (kMaxBranches * kNumbers));
  const A weight = pos_weight_of<A>(batch.pos_weight), ignore = ignored_value<A>(in);
  const int64_t begin = int64_t(blockIdx.x) * kPieceElements, stop = begin + kPieceElements;
  const int64_t end = stop < samples.elements ? stop : samples.elements;
  for (int64_t sample = blockIdx.y; sample < samples.count; sample += gridDim.y) {
    if (int(threadIdx.x) < in.branches) {
      const int b = int(threadIdx.x);
      const int64_t at = gradient.each ? sample : 0;
      const double factor = gradient.is_double
                                ? static_cast<const double*>(gradient.grad_output)[at]
                                : double(static_cast<const float*>(gradient.grad_output)[at]);
      const double share = batch.reduction == Reduction::kMean ? 1 / double(samples.count) : 1.0;
      const double branch = b == 0 ? batch.weights.branch[0] : batch.weights.branch[1];
      const Coefficients c = coefficients_of(sums_at(batch.sums, b * samples.count + sample),
                                             share * factor, branch, batch.weights);
      shared[b * kNumbers] = A(c.bce);
      shared[b * kNumbers + 1] = A(c.dice_base);
      shared[b * kNumbers + 2] = A(c.dice_slope);
      // Without a BCE its weight says nothing, even where it is NaN.
      shared[b * kNumbers + 3] = c.bce == 0 ? A(0) : weight * A(c.bce);
    }
    __syncthreads();
#pragma unroll 1
    for (int64_t at = begin; at < end; at += Tile<V>::kElements) {
      const Tile<V> tile(samples, sample, at);
      A mask[V] = {}, target[V];  // the first branch always has a mask
#pragma unroll 1                  // half of the code and fewer registers
      for (int b = 0; b < in.branches; ++b) {
        const Field own_mask = b == 0 ? in.mask[0] : in.mask[1];
        const Field own_target = b == 0 ? in.target[0] : in.target[1];
        void* const place = b == 0 ? gradient.out[0].data : gradient.out[1].data;
        const bool lends = b == 0 && gradient.out[1].data && !in.mask[1].data;
        if (!place && !lends) continue;
        const A* const c = shared + b * kNumbers;
        // Also where the logits are NaN.
        const bool is_zero = c[0] == A(0) && c[1] == A(0) && c[2] == A(0);
        Vector<T, V> stored = {};
        if (place) stored = tile.template load<T>(b == 0 ? in.logits[0].data : in.logits[1].data);
        load_targets(own_mask, place && c[0] != A(0) ? own_target : Field(), tile, ignore, mask,
                     target);
        if (!place) continue;
        Vector<T, V> out;
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const A z = to<A>(stored.value[i]), y = mask[i];
          const A g = pixel_gradient(z, y, target[i], c);
          out.value[i] = from<T>(is_zero || (in.has_ignore && y == A(kIgnored)) ? A(0) : g);
        }
        tile.store(place, out);
      }
    }
    __syncthreads();
  }
}

}  // namespace dual_mask
}  // namespace gpu
}  // namespace ansm_fast
