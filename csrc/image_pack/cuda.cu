// 8-bit images to real numbers and back on CUDA: checks, allocation, launches. Arithmetic:
// kernels/image_pack.
#include <vector>

#include "common/cuda_call.h"
#include "image_pack/cuda.cuh"

namespace ansm_fast {
namespace {

using image_pack::kChannels;
using image_pack::Layout;

Tensor cuda_image_pack(const Tensor& given, bool bgr, bool channels_last, ScalarType dtype) {
  STD_TORCH_CHECK(
      given.dim() == 4 && given.size(3) == kChannels && given.scalar_type() == ScalarType::Byte,
      "ansm_fast: images must be uint8 of shape (N, H, W, 3)");
  const OnDeviceOf device(given);
  const Tensor images = without_gaps(given);
  const int64_t samples = images.size(0), height = images.size(1), width = images.size(2);
  std::vector<int64_t> shape{samples, kChannels, height, width};
  if (channels_last) shape = {samples, height, width, kChannels};
  Tensor out = new_tensor(images, shape, dtype);
  check_floating(out, "the result");
  image_pack::Pack io;
  io.bytes = static_cast<const uint8_t*>(field(images).data);
  io.image = field(out);
  io.layout = channels_last ? Layout::kInterleaved : Layout::kPlanar;
  io.pixels = height * width;
  io.reverse = bgr;
  gpu::image_pack::Batch batch;
  batch.samples = samples;
  gpu::image_pack::launch_pack(io, batch, device.stream());
  check_launch();
  if (channels_last) out = torch::stable::transpose(torch::stable::transpose(out, 3, 2), 2, 1);
  return out;
}

Tensor cuda_image_unpack(const Tensor& given_image, const OptionalTensor& given_noise, double eps,
                         const OptionalTensor& sample_eps, bool bounded, bool bgr) {
  STD_TORCH_CHECK(given_image.dim() == 4 && given_image.size(1) == kChannels,
                  "ansm_fast: image must have shape (N, 3, H, W)");
  check_floating(given_image, "image");
  const OnDeviceOf device(given_image);
  const Order order = order_of(given_image);
  const Tensor image = in_order(given_image, order);
  OptionalTensor noise;
  if (given_noise) {
    check_alike(*given_noise, given_image, "perturbation");
    check_shape(*given_noise, given_image, "perturbation");
    noise = in_order(*given_noise, order);
  }
  const int64_t samples = image.size(0), height = image.size(2), width = image.size(3);
  const Tensor out =
      new_tensor(image, std::vector<int64_t>{samples, height, width, kChannels}, ScalarType::Byte);
  image_pack::Unpack io;
  io.image = field(image);
  if (noise) io.perturbation = field(*noise);
  io.bytes = static_cast<uint8_t*>(field(out).data);
  io.layout = order == Order::kChannelsLast ? Layout::kInterleaved : Layout::kPlanar;
  io.pixels = height * width;
  io.reverse = bgr;
  io.bounded = bounded;
  const gpu::image_pack::Batch batch{samples,
                                     sample_number(eps, sample_eps, samples, image, "eps")};
  gpu::image_pack::launch_unpack(io, batch, device.stream());
  check_launch();
  return out;
}

}  // namespace
}  // namespace ansm_fast

ANSM_FAST_CUDA_OPS(m) {
  m.impl("image_pack", TORCH_BOX(&ansm_fast::cuda_image_pack));
  m.impl("image_unpack", TORCH_BOX(&ansm_fast::cuda_image_unpack));
}
