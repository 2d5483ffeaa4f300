// Channel-wise KL on the CPU: checks, allocation, threads. Arithmetic: kernels/channelwise_kl.
#include <algorithm>
#include <tuple>
#include <vector>

#include "channelwise_kl/call.h"
#include "channelwise_kl/host.h"
#include "common/instruction_set.h"
#include "common/threads.h"

namespace ansm_fast {
namespace {

// Wide blocks read memory in long runs; narrower ones give every thread its share. The results of
// a channel are the same in any block.
int64_t channel_block_of(int64_t batch, int64_t channels) {
  constexpr int64_t kNarrowest = 16;
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t share = (std::max<int64_t>(batch, 1) * channels + threads - 1) / threads;
  const int64_t rounded = (share + kNarrowest - 1) / kNarrowest * kNarrowest;
  return std::clamp(rounded, kNarrowest, channelwise_kl::kMaxChannelBlock);
}

// A gradient that the caches cannot hold until somebody reads it goes past them to memory.
bool outgrows_the_caches(const Tensor& gradient) {
  constexpr int64_t kBytes = 8 << 20;
  return gradient.numel() * int64_t(gradient.element_size()) > kBytes;
}

std::tuple<Tensor, Tensor, Tensor> run(const KlCall& call, double temperature, double alpha,
                                       bool input_first) {
  const Tensor &input = call.input, &target = call.target;
  const Tensor &loss = call.loss, &to_input = call.to_input, &to_target = call.to_target;
  const int64_t batch = call.batch, channels = call.channels, pixels = call.pixels;
  const double divisor = call.divisor;
  const bool in_double = call.in_double, rows = call.rows;

  channelwise_kl::Inputs in;
  in.first = field(input_first ? input : target);
  in.second = field(input_first ? target : input);
  if (call.grad_input) (input_first ? in.grad_first : in.grad_second) = field(to_input);
  if (call.grad_target) (input_first ? in.grad_second : in.grad_first) = field(to_target);
  in.pixels = pixels;
  in.channels = channels;
  in.channel_block = channel_block_of(batch, channels);
  in.inverse_temperature = 1 / temperature;
  in.alpha = alpha;
  in.gradient_scale = 1 / temperature / divisor;
  if (call.factor) in.gradient_scale *= element(*call.factor, 0);
  in.streamed = outgrows_the_caches(call.grad_input ? to_input : to_target);

  std::vector<double> kl(size_t(batch * channels), 0.0);
  if (pixels > 0 && !kl.empty()) {
    if (call.order == Order::kChannelsLast) {
      const int64_t blocks = ANSM_FAST_HOST(channelwise_kl_column_blocks, in);
      in_parallel(batch * blocks, grain(pixels * channels / blocks),
                  [&](int64_t begin, int64_t end) {
                    ANSM_FAST_HOST(channelwise_kl_columns, in, in_double, begin, end, kl.data());
                  });
    } else {
      in_parallel(batch * channels, grain(pixels), [&](int64_t begin, int64_t end) {
        ANSM_FAST_HOST(channelwise_kl_rows, in, in_double, begin, end, kl.data());
      });
    }
  }
  if (call.factor) return {loss, to_input, to_target};
  double sum = 0;  // in the order of the rows: the same bits for any number of threads
  for (size_t i = 0; i < kl.size(); ++i) {
    if (rows) set_element(loss, int64_t(i), kl[i]);
    sum += kl[i];
  }
  if (!rows) set_element(loss, 0, sum / divisor);
  return {loss, to_input, to_target};
}

std::tuple<Tensor, Tensor, Tensor> forward(const Tensor& input, const Tensor& target,
                                           double temperature, double alpha, bool input_first,
                                           int64_t reduction, bool grad_input, bool grad_target,
                                           OptionalTensor grad_output) {
  const KlCall call(input, target, reduction, grad_input, grad_target, grad_output);
  return run(call, temperature, alpha, input_first);
}

std::tuple<Tensors, Tensors, Tensors> forward_of_layers(Tensors input, Tensors target,
                                                        double temperature, double alpha,
                                                        bool input_first, int64_t reduction,
                                                        std::vector<bool> grad_input,
                                                        std::vector<bool> grad_target,
                                                        Tensors grad_output) {
  check_layers(input, target, grad_input, grad_target, grad_output);
  std::tuple<Tensors, Tensors, Tensors> result;
  for (size_t i = 0; i < input.size(); ++i) {
    const KlCall call(input[i], target[i], reduction, grad_input[i], grad_target[i],
                      factor_of_layer(grad_output, i), input.size());
    auto [loss, to_input, to_target] = run(call, temperature, alpha, input_first);
    std::get<0>(result).push_back(loss);
    std::get<1>(result).push_back(to_input);
    std::get<2>(result).push_back(to_target);
  }
  return result;
}

// to = gradient * grad_output; both gradients lie in one order.
void scale(const Tensor& grad_output, const Tensor& gradient, const Tensor& to, Order order) {
  const Tensor factors = checked_factors(grad_output, gradient);
  const int64_t batch = gradient.size(0), channels = gradient.size(1);
  const bool uniform = factors.numel() == 1;
  std::vector<double> factor(size_t(batch * channels));
  for (size_t i = 0; i < factor.size(); ++i) factor[i] = element(factors, uniform ? 0 : int64_t(i));

  channelwise_kl::Scaling io;
  io.gradient = field(gradient);
  io.out = field(to);
  io.factor = factor.data();
  io.pixels = pixels_of(gradient);
  io.channels = channels;
  const bool in_double = is_double(gradient);
  if (io.pixels == 0 || factor.empty()) return;
  if (order == Order::kChannelsLast) {
    in_parallel(batch * io.pixels, grain(channels), [&](int64_t begin, int64_t end) {
      ANSM_FAST_HOST(channelwise_kl_scale_columns, io, in_double, begin, end);
    });
  } else {
    in_parallel(batch * channels, grain(io.pixels), [&](int64_t begin, int64_t end) {
      ANSM_FAST_HOST(channelwise_kl_scale_rows, io, in_double, begin, end);
    });
  }
}

Tensor backward(const Tensor& grad_output, const Tensor& given) {
  const Order order = order_of(given);
  const Tensor gradient = in_order(given, order);
  Tensor result = place_for(gradient, order);
  scale(grad_output, gradient, result, order);
  return result;
}

void scale_(const Tensor& gradient, const Tensor& grad_output) {
  check_in_place(gradient);
  // Most losses end the graph: their grad_output is 1, and nothing is touched.
  const bool scalar = grad_output.numel() == 1 && is_factor(grad_output);
  if (scalar && element(grad_output, 0) == 1) return;
  scale(grad_output, gradient, gradient, order_of(gradient));
}

}  // namespace
}  // namespace ansm_fast

STABLE_TORCH_LIBRARY_IMPL(ansm_fast, CPU, m) {
  m.impl("channelwise_kl", TORCH_BOX(&ansm_fast::forward));
  m.impl("channelwise_kl_layers", TORCH_BOX(&ansm_fast::forward_of_layers));
  m.impl("channelwise_kl_backward", TORCH_BOX(&ansm_fast::backward));
  m.impl("channelwise_kl_scale_", TORCH_BOX(&ansm_fast::scale_));
}
