// The schema of every op. Each op's own file registers its CPU implementation.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(ansm_fast, m) {
  // (loss, gradient of input, gradient of target); gradients not asked for are empty.
  // reduction: 0 none, 1 sum; the sum is divided by `divisor`. Memory is read as (B, N, C) where
  // channels_last is set, else as (B, C, N).
  m.def(
      "channelwise_kl(Tensor input, Tensor target, float temperature, float alpha, "
      "bool input_first, bool reduce, float divisor, bool channels_last, bool grad_input, "
      "bool grad_target) -> (Tensor, Tensor, Tensor)");
}
