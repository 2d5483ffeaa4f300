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

// function(a value of the logits' type, a constant: the elements of a vector, the samples): the
// largest element type of all tensors takes 16 bytes, so that each access of a warp is without
// gaps. `other`: what is read or written beside the inputs.
template <class Function>
void for_logits(const Inputs& in, const Batch& batch, const Field (&other)[2],
                const Function& function) {
  const Field fields[] = {in.logits, in.mask, other[0], other[1]};
  int64_t largest = 0;
  for (const Field& field : fields)
    if (field.data && bytes_of(field.type) > largest) largest = bytes_of(field.type);
  const auto with = [&](auto zero, auto width) {
    Samples samples{1, batch.pixels, true};
    for (const Field& field : fields)
      if (field.data)
        samples.aligned =
            samples.aligned && rows_aligned(field, 1, batch.pixels, decltype(width)::value);
    function(zero, width, samples);
  };
  for_floating(in.logits.type, [&](auto zero) {
    constexpr int kWidth = kVectorWidth<decltype(zero)>;
    if constexpr (kWidth == 8) {
      if (largest > kVectorBytes / kWidth)
        return with(zero, std::integral_constant<int, kWidth / 2>());
    }
    with(zero, std::integral_constant<int, kWidth>());
  });
}

inline void launch_forward(const Inputs& in, const Batch& batch, const Results& results,
                           cudaStream_t stream) {
  const int64_t piece = piece_length(batch.pixels), pieces = blocks_for(batch.pixels, piece);
  const bool each = batch.reduction == Reduction::kNone;
  if (pieces > 0) {
    const Field loss = each ? results.loss : Field();
    for_logits(in, batch, {loss, {}}, [&](auto zero, auto width, const Samples& samples) {
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
  for_logits(in, batch, {factors, gradient.out},
             [&](auto zero, auto width, const Samples& samples) {
               ANSM_FAST_LAUNCH((backward_kernel<decltype(zero), decltype(width)::value>),
                                dim3(unsigned(pieces)), dim3(kTileThreads), stream, in, batch,
                                samples, piece, gradient);
             });
}

}  // namespace focal
}  // namespace gpu
}  // namespace ansm_fast
