// The focal loss of logits against a mask on the device: the launches. Formulas and traffic:
// README.md.
#pragma once

#include "cuda_backward.cuh"
#include "cuda_forward.cuh"

namespace ansm_fast {
namespace gpu {
namespace focal {

// Of reduction kNone `loss` has a number for each pixel, in the type of the logits or in float32.
// Else it has one, float64 where the logits are, else float32.
struct Results {
  Field loss;
  double* workspace = nullptr;  // of `workspace_size` numbers
};

inline int64_t workspace_size(const Batch& batch) {
  if (batch.reduction == Reduction::kNone) return 0;
  return kSums * blocks_for(batch.pixels, piece_length(batch.pixels));
}

inline void launch_forward(const Inputs& in, const Batch& batch, const Results& results,
                           cudaStream_t stream) {
  const int64_t piece = piece_length(batch.pixels), pieces = blocks_for(batch.pixels, piece);
  const bool each = batch.reduction == Reduction::kNone;
  if (pieces > 0) {
    const Field loss = each ? results.loss : Field();
    const Field fields[] = {in.logits, in.mask, loss};
    for_vectors(fields, 1, batch.pixels, [&](auto zero, auto width, const Samples& samples) {
      ANSM_FAST_LAUNCH((forward_kernel<decltype(zero), decltype(width)::value>),
                       dim3(unsigned(pieces)), dim3(kTileThreads), stream, in, batch.pos_weight,
                       samples, piece, loss, results.workspace);
    });
  }
  if (each) return;
  const auto finish = [&](auto zero) {
    using A = decltype(zero);
    ANSM_FAST_LAUNCH((finish_kernel<A>), dim3(1), dim3(kTileThreads), stream, results.workspace,
                     pieces, batch.reduction, static_cast<A*>(results.loss.data), batch.count);
  };
  if (results.loss.type == ElementType::kFloat64)
    finish(double());
  else
    finish(float());
}

inline void launch_backward(const Inputs& in, const Batch& batch, const Gradient& gradient,
                            cudaStream_t stream) {
  const int64_t piece = piece_length(batch.pixels), pieces = blocks_for(batch.pixels, piece);
  if (pieces == 0) return;
  const Field factors = gradient.each ? gradient.grad_output : Field();
  const Field fields[] = {in.logits, in.mask, factors, gradient.out};
  for_vectors(fields, 1, batch.pixels, [&](auto zero, auto width, const Samples& samples) {
    ANSM_FAST_LAUNCH((backward_kernel<decltype(zero), decltype(width)::value>),
                     dim3(unsigned(pieces)), dim3(kTileThreads), stream, in, batch, samples, piece,
                     gradient);
  });
}

}  // namespace focal
}  // namespace gpu
}  // namespace ansm_fast
