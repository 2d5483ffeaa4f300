// The 16-bit types over all their patterns, and blocks of every type.
#include "check.h"
#include "common/half.h"
#include "common/staging.h"
#include "typed.h"

using namespace ansm_fast::ANSM_FAST_ISA;

namespace {

bool same(double a, double b) {
  return std::isnan(a) ? std::isnan(b) : a == b && std::signbit(a) == std::signbit(b);
}

template <class Widen, class Narrow>
void every_pattern(Format format, const Widen& widen_one, const Narrow& narrow_one) {
  const auto expect = [&](float value) {
    const unsigned found = narrow_one(value), truth = narrow(value, format);
    CHECK(std::isnan(value) ? std::isnan(widen(found, format)) : found == truth);
  };
  for (unsigned raw = 0; raw < 65536; ++raw) {
    const float value = widen_one(uint16_t(raw));
    CHECK(same(value, widen(raw, format)));
    expect(value);
    if (!std::isfinite(value)) continue;
    // The border to the next number, where rounding goes to the even one, and either side of it.
    const double next = widen(raw + 1, format);
    const float border = float(std::isfinite(next) ? (value + next) / 2 : value * 1.0005);
    expect(border);
    expect(std::nextafter(border, INFINITY));
    expect(std::nextafter(border, -INFINITY));
  }
  for (const float value : {65519.0f, 65520.0f, 3.4e38f, 1e-45f, 1e-30f, -1e-30f}) expect(value);
  // A NaN whose payload sits in the bits that are cut off must not become infinite.
  expect(bits<float>(0x7f800001u));
  expect(bits<float>(0xffffffffu));
}

// Blocks of any length, as several are converted together; what lies behind them stays.
template <class A>
void blocks(ElementType type, size_t n, int64_t skip) {
  Typed given(type, normal(n + size_t(skip), unsigned(n), 3));
  const Numbers truth = given.values();
  std::vector<A> buffer(n + 1, A(-7));
  const A* found = fetch(given.field(), skip, int64_t(n), buffer.data());
  for (size_t i = 0; i < n; ++i) CHECK(double(found[i]) == double(A(truth[size_t(skip) + i])));
  CHECK(buffer[n] == A(-7));

  if (type == ElementType::kUInt8) return;
  Typed out(type, Numbers(n + size_t(skip) + 1, 99.0));
  A* place = destination(out.field(), skip, buffer.data());
  const Numbers values = normal(n, 9);
  for (size_t i = 0; i < n; ++i) place[i] = A(values[i]);
  commit(out.field(), skip, int64_t(n), place);
  Numbers rounded;
  for (const double value : values) rounded.push_back(A(value));
  const Numbers stored = out.values(), wanted = Typed(type, rounded).values();
  for (size_t i = 0; i < n; ++i) CHECK(stored[size_t(skip) + i] == wanted[i]);
  for (size_t i = 0; i < size_t(skip); ++i) CHECK(stored[i] == Typed(type, {99.0}).values()[0]);
  CHECK(stored.back() == Typed(type, {99.0}).values()[0]);
}

}  // namespace

TEST(half) {
  every_pattern(kFloat16Format, float_from_float16, float16_from_float);
  every_pattern(kBFloat16Format, float_from_bfloat16, bfloat16_from_float);
  const ElementType narrow_types[] = {ElementType::kFloat32, ElementType::kFloat16,
                                      ElementType::kBFloat16, ElementType::kUInt8};
  for (size_t n = 0; n < 40; ++n)
    for (const int64_t skip : {0, 1, 5}) {
      for (const ElementType type : narrow_types) blocks<float>(type, n, skip);
      for (const ElementType type : narrow_types)
        if (type != ElementType::kFloat32) blocks<double>(type, n, skip);
      blocks<double>(ElementType::kFloat64, n, skip);
    }
}
