// The focal loss on the CPU: checks, allocation, threads. The arithmetic: kernels/focal.
#include <cmath>
#include <tuple>
#include <vector>

#include "common/instruction_set.h"
#include "common/threads.h"
#include "focal/call.h"
#include "focal/host.h"

namespace ansm_fast {
namespace {

FocalCall call_of(const Tensor& logits, const Tensor& mask, const OptionalTensor& pos_weight,
                  const std::vector<double>& options, std::optional<int64_t> ignore,
                  int64_t reduction) {
  FocalCall call(logits, mask, options, ignore, reduction);
  const double positive = PerSample(call.in.pos_weight, pos_weight, 1, "pos_weight")[0];
  // A negative weight would make of the loss what training takes for a gain.
  call.in.pos_weight = positive >= 0 ? positive : NAN;
  return call;
}

std::tuple<Tensor, Tensor> focal_forward(const Tensor& logits, const Tensor& mask,
                                         const OptionalTensor& pos_weight,
                                         const std::vector<double>& options,
                                         std::optional<int64_t> ignore, int64_t reduction,
                                         ScalarType dtype) {
  const FocalCall call = call_of(logits, mask, pos_weight, options, ignore, reduction);
  const Tensor loss = call.place_for_loss(dtype), count = call.place_for_count();
  const Field each = call.each() ? field(loss) : Field();
  const Pieces pieces(1, call.pixels());
  std::vector<focal::Sums> parts(size_t(pieces.count()));
  pieces.run([&](int64_t index, const Piece& piece) {
    ANSM_FAST_HOST(focal_forward, call.in, call.in_double(), piece.begin, piece.end, each,
                   &parts[size_t(index)]);
  });
  if (call.each()) return {loss, count};
  focal::Sums total;
  for (const focal::Sums& part : parts) {
    total.loss += part.loss;
    total.count += part.count;
  }
  set_element(count, 0, total.count);
  set_element(loss, 0, focal::loss_of(total, call.reduction));
  return {loss, count};
}

Tensor focal_backward(const Tensor& grad_output, const Tensor& count, const Tensor& logits,
                      const Tensor& mask, const OptionalTensor& pos_weight,
                      const std::vector<double>& options, std::optional<int64_t> ignore,
                      int64_t reduction) {
  const FocalCall call = call_of(logits, mask, pos_weight, options, ignore, reduction);
  const Tensor factors = call.factors_of(grad_output, count);
  const Tensor gradient = place_for(call.logits, call.order);
  const Field own = call.each() ? field(factors) : Field();
  const double factor =
      call.each() ? 0 : focal::factor_of(element(factors, 0), element(count, 0), call.reduction);
  Pieces(1, call.pixels()).run([&](int64_t, const Piece& piece) {
    ANSM_FAST_HOST(focal_backward, call.in, call.in_double(), factor, own, field(gradient),
                   piece.begin, piece.end);
  });
  return gradient;
}

}  // namespace
}  // namespace ansm_fast

STABLE_TORCH_LIBRARY_IMPL(ansm_fast, CPU, m) {
  m.impl("focal", TORCH_BOX(&ansm_fast::focal_forward));
  m.impl("focal_backward", TORCH_BOX(&ansm_fast::focal_backward));
}
