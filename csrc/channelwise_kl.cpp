// Channel-wise KL on the CPU: checks, allocation, threads. Arithmetic: kernels/channelwise_kl.
#include <tuple>
#include <vector>

#include "channelwise_kl_host.h"
#include "isa.h"
#include "tensor.h"

namespace ansm_fast {
namespace {

int64_t pixels_of(const Tensor& tensor) {
  int64_t pixels = 1;
  for (int64_t d = 2; d < tensor.dim(); ++d) pixels *= tensor.size(d);
  return pixels;
}

template <class T>
void write_loss(const std::vector<double>& kl, bool reduce, double divisor, T* out) {
  if (!reduce) {
    for (size_t i = 0; i < kl.size(); ++i) out[i] = T(kl[i]);
    return;
  }
  double sum = 0;  // in the order of the rows: the same bits for any number of threads
  for (const double value : kl) sum += value;
  out[0] = T(sum / divisor);
}

// `loss` is float32, or float64 for float64 input; Python brings it to the input's dtype.
std::tuple<Tensor, Tensor, Tensor> channelwise_kl(const Tensor& input, const Tensor& target,
                                                  double temperature, double alpha,
                                                  bool input_first, bool reduce, double divisor,
                                                  bool channels_last, bool grad_input,
                                                  bool grad_target) {
  STD_TORCH_CHECK(input.dim() >= 2, "ansm_fast: input must have shape (B, C, *space)");
  check_same(target, input, "target");
  const int64_t batch = input.size(0), channels = input.size(1), pixels = pixels_of(input);
  const bool wide = is_double(input);
  const std::vector<int64_t> shape = reduce ? std::vector<int64_t>{}
                                            : std::vector<int64_t>{batch, channels};
  Tensor loss = torch::stable::new_empty(input, shape, wide ? ScalarType::Double
                                                            : ScalarType::Float);
  const std::vector<int64_t> nothing{0};
  Tensor to_input = grad_input ? torch::stable::empty_like(input)
                               : torch::stable::new_empty(input, nothing);
  Tensor to_target = grad_target ? torch::stable::empty_like(target)
                                 : torch::stable::new_empty(target, nothing);

  ::ansm_fast::channelwise_kl::Inputs in;
  in.first = field(input_first ? input : target);
  in.second = field(input_first ? target : input);
  if (grad_input) (input_first ? in.grad_first : in.grad_second) = field(to_input);
  if (grad_target) (input_first ? in.grad_second : in.grad_first) = field(to_target);
  in.pixels = pixels;
  in.channels = channels;
  in.inverse_temperature = 1 / temperature;
  in.alpha = alpha;
  in.gradient_scale = 1 / temperature / (reduce ? divisor : 1.0);

  std::vector<double> kl(size_t(batch * channels), 0.0);
  if (pixels > 0 && !kl.empty()) {
    if (channels_last) {
      const int64_t blocks = ANSM_FAST_HOST(channelwise_kl_column_blocks, in);
      torch::stable::parallel_for(
          0, batch * blocks, grain(pixels * channels / blocks), [&](int64_t begin, int64_t end) {
            ANSM_FAST_HOST(channelwise_kl_columns, in, wide, begin, end, kl.data());
          });
    } else {
      torch::stable::parallel_for(
          0, batch * channels, grain(pixels), [&](int64_t begin, int64_t end) {
            ANSM_FAST_HOST(channelwise_kl_rows, in, wide, begin, end, kl.data());
          });
    }
  }
  if (wide)
    write_loss(kl, reduce, divisor, static_cast<double*>(loss.data_ptr()));
  else
    write_loss(kl, reduce, divisor, static_cast<float*>(loss.data_ptr()));
  return {loss, to_input, to_target};
}

}  // namespace
}  // namespace ansm_fast

STABLE_TORCH_LIBRARY_IMPL(ansm_fast, CPU, m) {
  m.impl("channelwise_kl", TORCH_BOX(&ansm_fast::channelwise_kl));
}
