#include "image_pack/cpu.h"

#include "check.h"

namespace kernel = ansm_fast::ANSM_FAST_ISA::image_pack;
using ansm_fast::ElementType;
using namespace ansm_fast::image_pack;

namespace {

void round_trip(size_t pixels, Layout layout, bool reverse) {
  std::vector<uint8_t> bytes(pixels * kChannels), back(bytes.size());
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = uint8_t(i * 37 + i / 256);
  std::vector<float> image(bytes.size());
  float table[kLevels];
  kernel::fill_table(ElementType::kFloat32, table);
  Pack pack;
  pack.bytes = bytes.data();
  pack.image = {image.data(), ElementType::kFloat32};
  pack.layout = layout;
  pack.pixels = int64_t(pixels);
  pack.reverse = reverse;
  pack.table = table;
  kernel::pack_chunk(pack, 0, int64_t(pixels));
  for (size_t i = 0; i < pixels; ++i)
    for (size_t c = 0; c < 3; ++c) {
      const size_t from = i * 3 + (reverse ? 2 - c : c);
      const size_t to = layout == Layout::kPlanar ? c * pixels + i : i * 3 + c;
      CHECK(image[to] == float(bytes[from]) / 255.0f);
    }

  Unpack unpack;
  unpack.image = pack.image;
  unpack.bytes = back.data();
  unpack.layout = layout;
  unpack.pixels = int64_t(pixels);
  unpack.reverse = reverse;
  kernel::unpack_chunk<float>(unpack, 0, int64_t(pixels));
  CHECK(back == bytes);

  auto noise = normal<float>(image.size(), 5, 0.05);
  const int levels = 3;
  unpack.perturbation = {noise.data(), ElementType::kFloat32};
  unpack.bounded = true;
  unpack.eps = (levels + 0.5) / 255.0;
  kernel::unpack_chunk<float>(unpack, 0, int64_t(pixels));
  for (size_t i = 0; i < bytes.size(); ++i) CHECK(std::abs(int(back[i]) - int(bytes[i])) <= levels);
}

}  // namespace

void test_image_pack() {
  for (const size_t pixels : {1u, 5u, 341u, 342u, 1024u, 2000u})
    for (const Layout layout : {Layout::kPlanar, Layout::kInterleaved})
      for (const bool reverse : {false, true}) round_trip(pixels, layout, reverse);
}
