// BCE + Dice of one or two branches against a mask on the device: the launches. Formulas and
// traffic: README.md.
#pragma once

#include "cuda_backward.cuh"
#include "cuda_forward.cuh"

namespace ansm_fast {
namespace gpu {
namespace dual_mask {

// `loss` and `components` are float64 where the logits are, else float32.
struct Results {
  void* loss = nullptr;
  void* components = nullptr;
  double* workspace = nullptr;  // of `workspace_size` numbers
};

// Partial sums of every piece, then BCE and Dice of every sample.
inline int64_t workspace_size(const Inputs& in, const Batch& batch) {
  return in.branches * batch.samples * (kSums * pieces_of(batch.elements) + 2);
}

// A pos_weight of 1 that the host knows needs no logarithm for every pixel.
inline bool is_weighted(const Batch& batch) {
  return batch.pos_weight.numbers || batch.pos_weight.number != 1;
}

inline void launch_forward(const Inputs& in, const Batch& batch, const Results& results,
                           cudaStream_t stream) {
  const int64_t pieces = pieces_of(batch.elements);
  double* const partials = results.workspace;
  double* const terms = partials + in.branches * batch.samples * kSums * pieces;
  if (batch.samples > 0 && pieces > 0) {
    const Field fields[] = {in.logits[0], in.logits[1], in.mask[0],
                            in.mask[1],   in.target[0], in.target[1]};
    for_vectors(fields, batch.samples, batch.elements,
                [&](auto zero, auto width, const Samples& samples) {
                  ANSM_FAST_LAUNCH((forward_kernel<decltype(zero), decltype(width)::value>),
                                   sample_grid(samples, kPieceElements), dim3(kTileThreads), stream,
                                   in, batch.pos_weight, is_weighted(batch), samples, partials);
                });
  }
  if (in.branches == 2)
    combine<2 * kSums>(partials, batch.samples, pieces,
                       FinishSums<2>{batch.sums, terms, batch.samples, batch.weights.smooth},
                       stream);
  else
    combine<kSums>(partials, batch.samples, pieces,
                   FinishSums<1>{batch.sums, terms, batch.samples, batch.weights.smooth}, stream);
  const bool each = batch.reduction == Reduction::kNone;
  if (each && batch.samples == 0) return;
  const int64_t needed = each ? blocks_for(batch.samples, kTileThreads) : 1;
  const dim3 grid(unsigned(needed < kMaxBlocks ? needed : kMaxBlocks));
  const auto launch = [&](auto zero) {
    using A = decltype(zero);
    ANSM_FAST_LAUNCH((loss_kernel<A>), grid, dim3(kTileThreads), stream, terms, in.branches,
                     batch.samples, batch.weights, batch.reduction, static_cast<A*>(results.loss),
                     static_cast<A*>(results.components));
  };
  if (in.logits[0].type == ElementType::kFloat64)
    launch(double());
  else
    launch(float());
}

inline void launch_backward(const Inputs& in, const Batch& batch, const Gradient& gradient,
                            cudaStream_t stream) {
  const bool wanted = gradient.out[0].data || gradient.out[1].data;
  if (batch.samples == 0 || batch.elements == 0 || !wanted) return;
  const Field fields[] = {in.logits[0], in.logits[1], in.mask[0],      in.mask[1],
                          in.target[0], in.target[1], gradient.out[0], gradient.out[1]};
  for_vectors(fields, batch.samples, batch.elements,
              [&](auto zero, auto width, const Samples& samples) {
                ANSM_FAST_LAUNCH((backward_kernel<decltype(zero), decltype(width)::value>),
                                 sample_grid(samples, kPieceElements), dim3(kTileThreads), stream,
                                 in, batch, samples, gradient);
              });
}

}  // namespace dual_mask
}  // namespace gpu
}  // namespace ansm_fast
