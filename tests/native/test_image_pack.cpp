#include "image_pack/cpu.h"

#include "check.h"
#include "typed.h"

namespace kernel = ansm_fast::ANSM_FAST_ISA::image_pack;
using namespace ansm_fast::image_pack;

namespace {

// Where channel c of pixel i of the image lies, and where among the bytes.
size_t in_image(size_t i, size_t c, size_t pixels, Layout layout) {
  return layout == Layout::kPlanar ? c * pixels + i : i * 3 + c;
}
size_t in_bytes(size_t i, size_t c, bool reverse) { return i * 3 + (reverse ? 2 - c : c); }

// All 256 levels, in every channel.
std::vector<uint8_t> some_bytes(size_t pixels) {
  std::vector<uint8_t> bytes(pixels * 3);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = uint8_t(i * 37 + i / 256);
  return bytes;
}

double level_as(ElementType type, unsigned level) {
  // Rounded to float first, as PyTorch does for the 16-bit types.
  return type == ElementType::kFloat64 ? level / 255.0 : double(float(level) / 255.0f);
}

void pack(ElementType type, size_t pixels, Layout layout, bool reverse) {
  const std::vector<uint8_t> bytes = some_bytes(pixels);
  Typed image(type, Numbers(bytes.size(), 9.0)), table(type, Numbers(kLevels, 9.0));
  kernel::fill_table(type, table.field().data);
  Pack io;
  io.bytes = bytes.data();
  io.image = image.field();
  io.layout = layout;
  io.pixels = int64_t(pixels);
  io.reverse = reverse;
  io.table = table.field().data;
  in_pieces(pixels, [&](int64_t begin, int64_t end) { kernel::pack_chunk(io, begin, end); });
  Numbers truth(bytes.size());
  for (size_t i = 0; i < pixels; ++i)
    for (size_t c = 0; c < 3; ++c)
      truth[in_image(i, c, pixels, layout)] = level_as(type, bytes[in_bytes(i, c, reverse)]);
  CHECK(image.values() == Typed(type, truth).values());
}

struct Budget {
  bool bounded;
  double eps;
  int levels;  // how far a level may move
};

template <class T>
T clip(T value, T low, T high) {
  return value < low ? low : value > high ? high : value;
}

// In the arithmetic of the kernels, where every operation rounds: ties are then the same ties.
template <class A>
int level_of(A value) {
  const A scaled = clip(value, A(0), A(1)) * A(255);
  return std::isnan(value) ? 0 : int(std::nearbyint(scaled));
}

void unpack(ElementType type, size_t pixels, Layout layout, bool reverse, const Numbers& values,
            const Budget* budget) {
  Typed image(type, values), noise(type, normal(pixels * 3, 5, 0.03));
  std::vector<uint8_t> bytes(pixels * 3, 77);
  Unpack io;
  io.image = image.field();
  if (budget) io.perturbation = noise.field();
  io.bytes = bytes.data();
  io.layout = layout;
  io.pixels = int64_t(pixels);
  io.reverse = reverse;
  if (budget) io.eps = budget->eps;
  io.bounded = budget && budget->bounded;
  const Numbers x = image.values(), p = noise.values();
  in_arithmetic_of(type, [&](auto zero) {
    using A = decltype(zero);
    in_pieces(pixels, [&](int64_t begin, int64_t end) { kernel::unpack_chunk<A>(io, begin, end); });
    for (size_t i = 0; i < pixels; ++i)
      for (size_t c = 0; c < 3; ++c) {
        const size_t k = in_image(i, c, pixels, layout);
        int expected = level_of(A(x[k]));
        if (budget) {
          const int start = expected, reach = io.bounded ? budget->levels : 255;
          const A bound = io.bounded ? A(budget->eps) : A(INFINITY);
          const int moved = level_of(A(x[k]) + clip(A(p[k]), -bound, bound));
          expected = clip(moved, start - reach, start + reach);
        }
        CHECK(bytes[in_bytes(i, c, reverse)] == expected);
      }
  });
}

void run(ElementType type, size_t pixels, Layout layout, bool reverse) {
  const std::vector<uint8_t> bytes = some_bytes(pixels);
  Numbers levels, any = uniform(pixels * 3, 8);
  for (const uint8_t byte : bytes) levels.push_back(level_as(type, byte));
  for (size_t i = 0; i < any.size(); i += 11) any[i] = i % 2 ? -0.4 : 1.7;
  for (size_t i = 5; i < any.size(); i += 97) any[i] = i % 2 ? NAN : INFINITY;
  const double rounded_down = 5.0 / 255.0 * (1 - 1.0 / 2048);  // as a half type may hold 5 / 255
  const Budget budgets[] = {{false, 0, 255},         {true, 0, 0},
                            {true, 3.0 / 255.0, 3},  {true, 3.5 / 255.0, 3},
                            {true, rounded_down, 5}, {true, 2.0, 255}};
  pack(type, pixels, layout, reverse);
  for (const Numbers& values : {levels, any}) {
    unpack(type, pixels, layout, reverse, values, nullptr);
    for (const Budget& budget : budgets) unpack(type, pixels, layout, reverse, values, &budget);
  }
}

}  // namespace

TEST(image_pack) {
  for (const ElementType type : kFloating)
    for (const size_t pixels : {1u, 5u, 341u, 342u, 1024u, 3500u})
      for (const Layout layout : {Layout::kPlanar, Layout::kInterleaved})
        for (const bool reverse : {false, true}) run(type, pixels, layout, reverse);
}
