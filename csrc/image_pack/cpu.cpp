// 8-bit images to real numbers and back on the CPU: checks, allocation, threads. Arithmetic:
// kernels/image_pack.
#include <vector>

#include "common/instruction_set.h"
#include "common/layout.h"
#include "common/threads.h"
#include "image_pack/host.h"

namespace ansm_fast {
namespace {

using image_pack::kChannels;

Tensor pack(const Tensor& given, bool bgr, bool channels_last, ScalarType dtype) {
  STD_TORCH_CHECK(
      given.dim() == 4 && given.size(3) == kChannels && given.scalar_type() == ScalarType::Byte,
      "ansm_fast: images must be uint8 of shape (N, H, W, 3)");
  const Tensor images = without_gaps(given);
  const int64_t samples = images.size(0), pixels = images.size(1) * images.size(2);
  std::vector<int64_t> shape{samples, kChannels, images.size(1), images.size(2)};
  if (channels_last) shape = {samples, images.size(1), images.size(2), kChannels};
  Tensor out = new_tensor(images, shape, dtype);
  check_floating(out, "the result");
  double table[image_pack::kLevels];  // space for any type
  const Field to = field(out);
  ANSM_FAST_HOST(image_pack_table, to.type, table);
  const auto* bytes = static_cast<const uint8_t*>(images.data_ptr());
  auto* results = static_cast<char*>(out.data_ptr());
  const int64_t sample_bytes = pixels * kChannels * int64_t(out.element_size());
  Pieces(samples, pixels).run([&](int64_t, const Piece& piece) {
    const int64_t origin = piece.sample * pixels;
    image_pack::Pack io;
    io.bytes = bytes + origin * kChannels;
    io.image = {results + piece.sample * sample_bytes, to.type};
    io.layout = channels_last ? image_pack::Layout::kInterleaved : image_pack::Layout::kPlanar;
    io.pixels = pixels;
    io.reverse = bgr;
    io.table = table;
    ANSM_FAST_HOST(image_pack_run, io, piece.begin - origin, piece.end - origin);
  });
  if (channels_last) out = torch::stable::transpose(torch::stable::transpose(out, 3, 2), 2, 1);
  return out;
}

Field of_sample(const Tensor& tensor, int64_t sample, int64_t elements) {
  const int64_t offset = sample * elements * int64_t(tensor.element_size());
  return {static_cast<char*>(tensor.data_ptr()) + offset, element_type(tensor)};
}

Tensor unpack(const Tensor& given_image, const OptionalTensor& given_noise, double eps,
              const OptionalTensor& sample_eps, bool bounded, bool bgr) {
  STD_TORCH_CHECK(given_image.dim() == 4 && given_image.size(1) == kChannels,
                  "ansm_fast: image must have shape (N, 3, H, W)");
  check_floating(given_image, "image");
  const Order order = order_of(given_image);
  const Tensor image = in_order(given_image, order);
  OptionalTensor noise;
  if (given_noise) {
    check_floating(*given_noise, "perturbation");
    check_shape(*given_noise, given_image, "perturbation");
    noise = in_order(*given_noise, order);
  }
  const int64_t samples = image.size(0), pixels = image.size(2) * image.size(3);
  const std::vector<int64_t> shape{samples, image.size(2), image.size(3), kChannels};
  Tensor out = new_tensor(image, shape, ScalarType::Byte);
  auto* bytes = static_cast<uint8_t*>(out.data_ptr());
  const PerSample budget(eps, sample_eps, samples, "eps");
  const bool in_double = is_double(image);
  Pieces(samples, pixels).run([&](int64_t, const Piece& piece) {
    const int64_t origin = piece.sample * pixels, elements = pixels * kChannels;
    image_pack::Unpack io;
    io.image = of_sample(image, piece.sample, elements);
    if (noise) io.perturbation = of_sample(*noise, piece.sample, elements);
    io.bytes = bytes + origin * kChannels;
    io.layout = order == Order::kChannelsLast ? image_pack::Layout::kInterleaved
                                              : image_pack::Layout::kPlanar;
    io.pixels = pixels;
    io.reverse = bgr;
    io.eps = budget[piece.sample];
    io.bounded = bounded;
    ANSM_FAST_HOST(image_unpack_run, io, in_double, piece.begin - origin, piece.end - origin);
  });
  return out;
}

}  // namespace
}  // namespace ansm_fast

STABLE_TORCH_LIBRARY_IMPL(ansm_fast, CPU, m) {
  m.impl("image_pack", TORCH_BOX(&ansm_fast::pack));
  m.impl("image_unpack", TORCH_BOX(&ansm_fast::unpack));
}
