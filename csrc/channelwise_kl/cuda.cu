// Channel-wise KL on CUDA: checks, allocation, launches. Arithmetic: kernels/channelwise_kl.
#include "channelwise_kl/call.h"
#include "channelwise_kl/cuda.cuh"
#include "common/cuda_call.h"

namespace ansm_fast {
namespace {

namespace kl = gpu::channelwise_kl;

struct KlOptions {
  double temperature, alpha;
  bool input_first;
};

kl::Layer layer_of(const KlCall& call, const KlOptions& options) {
  const bool input_first = options.input_first;
  const auto place = [](const Tensor& gradient) {
    return gradient.numel() > 0 ? field(gradient).data : nullptr;
  };
  kl::Layer layer;
  layer.first = field(input_first ? call.input : call.target).data;
  layer.second = field(input_first ? call.target : call.input).data;
  layer.grad_first = place(input_first ? call.to_input : call.to_target);
  layer.grad_second = place(input_first ? call.to_target : call.to_input);
  layer.samples = call.batch;
  layer.channels = call.channels;
  layer.pixels = call.pixels;
  layer.gradient_scale = 1 / options.temperature / call.divisor;
  if (call.factor) {
    layer.factor = field(*call.factor).data;
    layer.factor_is_double = is_double(*call.factor);
  }
  layer.channels_last = call.order == Order::kChannelsLast;
  return layer;
}

// All calls are of one dtype.
void launch(const std::vector<KlCall>& calls, const KlOptions& options, cudaStream_t stream) {
  std::vector<kl::Layer> layers;
  for (const KlCall& call : calls) layers.push_back(layer_of(call, options));
  const Tensor& like = calls.front().input;
  const bool in_double = calls.front().in_double;
  kl::Work work;
  work.layers = layers.data();
  work.count = int64_t(layers.size());
  work.type = element_type(like);
  work.inverse_temperature = 1 / options.temperature;
  work.alpha = options.alpha;
  kl::plan(work);

  std::vector<kl::Loss> losses(calls.size());
  int64_t workspace = 0;
  const bool makes_losses = !calls.front().factor;
  for (size_t i = 0; makes_losses && i < calls.size(); ++i) {
    losses[i].out = field(calls[i].loss).data;
    losses[i].count = layers[i].rows();
    losses[i].divisor = calls[i].divisor;
    losses[i].each = calls[i].rows;
    workspace += kl::loss_workspace(losses[i]);
  }
  const auto numbers = [&](int64_t count, ScalarType type) {
    return new_tensor(like, count, type);
  };
  const Tensor rows = numbers(work.rows + workspace, ScalarType::Double);
  work.kl = numbers_of(rows);
  for (size_t i = 0; makes_losses && i < calls.size(); ++i)
    if (layers[i].route != kl::Route::kNone) losses[i].values = work.kl + layers[i].first_row;
  OptionalTensor statistics, partials;
  if (work.chunks > 0) {
    const ScalarType type = in_double ? ScalarType::Double : ScalarType::Float;
    statistics = numbers(kl::kStatistics * work.rows, type);
    partials = numbers(kl::kPartials * work.chunks, type);
    work.statistics = field(*statistics).data;
    work.partials = field(*partials).data;
  }
  kl::launch_forward(work, stream);
  if (makes_losses)
    kl::launch_losses(losses.data(), int64_t(losses.size()), in_double, work.kl + work.rows,
                      stream);
  check_launch();
}

std::tuple<Tensor, Tensor, Tensor> forward(const Tensor& input, const Tensor& target,
                                           double temperature, double alpha, bool input_first,
                                           int64_t reduction, bool grad_input, bool grad_target,
                                           OptionalTensor grad_output) {
  const OnDeviceOf device(input);
  check_alike(target, input, "target");
  if (grad_output) check_device(*grad_output, input, "grad_output");
  const std::vector<KlCall> calls{{input, target, reduction, grad_input, grad_target, grad_output}};
  launch(calls, {temperature, alpha, input_first}, device.stream());
  return {calls[0].loss, calls[0].to_input, calls[0].to_target};
}

std::tuple<Tensors, Tensors, Tensors> forward_of_layers(Tensors input, Tensors target,
                                                        double temperature, double alpha,
                                                        bool input_first, int64_t reduction,
                                                        std::vector<bool> grad_input,
                                                        std::vector<bool> grad_target,
                                                        Tensors grad_output) {
  check_layers(input, target, grad_input, grad_target, grad_output);
  if (input.empty()) return {};
  const OnDeviceOf device(input.front());
  std::vector<KlCall> calls;
  for (size_t i = 0; i < input.size(); ++i) {
    check_alike(target[i], input[i], "target");
    check_alike(input[i], input.front(), "input");
    const OptionalTensor factor = factor_of_layer(grad_output, i);
    if (factor) check_device(*factor, input.front(), "grad_output");
    calls.emplace_back(input[i], target[i], reduction, grad_input[i], grad_target[i], factor,
                       input.size());
  }
  launch(calls, {temperature, alpha, input_first}, device.stream());
  std::tuple<Tensors, Tensors, Tensors> result;
  for (const KlCall& call : calls) {
    std::get<0>(result).push_back(call.loss);
    std::get<1>(result).push_back(call.to_input);
    std::get<2>(result).push_back(call.to_target);
  }
  return result;
}

// to = gradient * grad_output, which the kernel reads; both gradients lie in one order.
void scale(const Tensor& grad_output, const Tensor& gradient, const Tensor& to, Order order,
           bool skip_one) {
  const OnDeviceOf device(gradient);
  check_device(grad_output, gradient, "grad_output");
  const Tensor factors = checked_factors(grad_output, gradient);
  kl::Scaling io;
  io.layer.first = field(gradient).data;
  io.layer.grad_first = field(to).data;
  io.layer.samples = gradient.size(0);
  io.layer.channels = gradient.size(1);
  io.layer.pixels = pixels_of(gradient);
  io.layer.channels_last = order == Order::kChannelsLast;
  io.factor = field(factors).data;
  io.factor_is_double = is_double(factors);
  io.uniform = factors.numel() == 1;
  io.skip_one = skip_one;
  kl::launch_scale(io, element_type(gradient), device.stream());
  check_launch();
}

Tensor backward(const Tensor& grad_output, const Tensor& given) {
  const Order order = order_of(given);
  const Tensor gradient = in_order(given, order);
  Tensor result = place_for(gradient, order);
  scale(grad_output, gradient, result, order, false);
  return result;
}

// Most losses end the graph: their grad_output is 1, and the kernel touches nothing.
void scale_(const Tensor& gradient, const Tensor& grad_output) {
  check_in_place(gradient);
  scale(grad_output, gradient, gradient, order_of(gradient), true);
}

}  // namespace
}  // namespace ansm_fast

ANSM_FAST_CUDA_OPS(m) {
  m.impl("channelwise_kl", TORCH_BOX(&ansm_fast::forward));
  m.impl("channelwise_kl_layers", TORCH_BOX(&ansm_fast::forward_of_layers));
  m.impl("channelwise_kl_backward", TORCH_BOX(&ansm_fast::backward));
  m.impl("channelwise_kl_scale_", TORCH_BOX(&ansm_fast::scale_));
}
