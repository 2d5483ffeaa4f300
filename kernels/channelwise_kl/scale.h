// The backward of channel-wise KL: the gradient was made in the forward.
#pragma once

#include "element.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {
namespace channelwise_kl {

template <class A>
void scale_rows_chunk(const Scaling& io, int64_t begin, int64_t end) {
  A buffer[kStagedBlock], out_buffer[kStagedBlock];
  for (int64_t row = begin; row < end; ++row) {
    const A factor = A(io.factor[row]);
    const int64_t stop = (row + 1) * io.pixels;
    for (int64_t at = row * io.pixels; at < stop; at += kStagedBlock) {
      const int64_t n = stop - at < kStagedBlock ? stop - at : kStagedBlock;
      const A* gradient = fetch(io.gradient, at, n, buffer);
      A* out = destination(io.out, at, out_buffer);
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) out[i] = gradient[i] * factor;
      commit(io.out, at, n, out);
    }
  }
}

// Pixels [begin, end), counted over all samples.
template <class A>
void scale_columns_chunk(const Scaling& io, int64_t begin, int64_t end) {
  A buffer[kStagedBlock], out_buffer[kStagedBlock];
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    const double* factor = io.factor + pixel / io.pixels * io.channels;
    for (int64_t channel = 0; channel < io.channels; channel += kStagedBlock) {
      const int64_t left = io.channels - channel, at = pixel * io.channels + channel;
      const int64_t n = left < kStagedBlock ? left : kStagedBlock;
      const A* gradient = fetch(io.gradient, at, n, buffer);
      A* out = destination(io.out, at, out_buffer);
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) out[i] = gradient[i] * A(factor[channel + i]);
      commit(io.out, at, n, out);
    }
  }
}

}  // namespace channelwise_kl
}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
