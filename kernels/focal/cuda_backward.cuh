// The gradient, from the inputs and the gradient of the loss.
#pragma once

#include "cuda_pixel.cuh"

namespace ansm_fast {
namespace gpu {
namespace focal {

// `grad_output`: one number, or with `each` one for each pixel, in the order of the logits.
struct Gradient {
  Field grad_output;
  bool each = false;
  Field out;
};

// d loss / d logit of one pixel whose loss has the gradient `factor`; 0 for 0, also of NaN.
template <class A>
__device__ __forceinline__ A pixel_gradient(A z, A y, A factor, const Options<A>& options) {
  const Pixel<A> pixel = pixel_of(z, y, options.pos_weight);
  const A p = pixel.logistic.probability, q = pixel.logistic.complement, other = A(1) - y;
  A slope = multiply_add(other, p, -(options.pos_weight * y * q));  // of the cross-entropy
  if (options.modulation != Modulation::kOne) {
    // gamma miss^(gamma - 1) (1 - 2 y) p (1 - p) ce + miss^gamma slope
    const A spread = options.gamma * (p * q) * (other - y);
    slope = multiply_add(spread, pixel.cross_entropy, pixel.miss * slope);
    slope *= power_below(pixel.miss, options);
  }
  const A weight = multiply_add(options.alpha_slope, y, options.alpha_base) * factor;
  return factor == A(0) ? A(0) : weight * slope;
}

__device__ __forceinline__ double shared_factor(const Batch& batch, const Field& grad_output) {
  const double factor = grad_output.type == ElementType::kFloat64
                            ? *static_cast<const double*>(grad_output.data)
                            : double(*static_cast<const float*>(grad_output.data));
  return factor_of(factor, batch.reduction == Reduction::kMean ? *batch.count : 1.0,
                   batch.reduction);
}

template <class T, int V>
__global__ void __launch_bounds__(kTileThreads, kBlocksPerProcessor<V>)
    backward_kernel(Inputs in, Batch batch, Samples samples, int64_t piece, Gradient gradient) {
  using A = accumulate_t<T>;
  const Options<A> options(in, batch.pos_weight);
  const A factor = gradient.each ? A(0) : A(shared_factor(batch, gradient.grad_output));
  const int64_t begin = int64_t(blockIdx.x) * piece, stop = begin + piece;
  const int64_t end = stop < samples.elements ? stop : samples.elements;
#pragma unroll 1
  for (int64_t at = begin; at < end; at += Tile<V>::kElements) {
    const Tile<V> tile(samples, 0, at);
    const Vector<T, V> stored = tile.template load<T>(in.logits.data);
    A mask[V], factors[V];
    load_any(in.mask, tile, options.ignored, mask);
    if (gradient.each) {
      load_numbers<T>(gradient.grad_output, tile, factors);
    } else {
#pragma unroll
      for (int i = 0; i < V; ++i) factors[i] = factor;
    }
    Vector<T, V> out;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const A g = pixel_gradient(to<A>(stored.value[i]), mask[i], factors[i], options);
      out.value[i] = from<T>(in.has_ignore && mask[i] == A(kIgnored) ? A(0) : g);
    }
    tile.store(gradient.out.data, out);
  }
}

}  // namespace focal
}  // namespace gpu
}  // namespace ansm_fast
