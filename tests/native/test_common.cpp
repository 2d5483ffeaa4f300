// exp, log and the half types: over their whole ranges.
#include "check.h"
#include "common/half.h"
#include "common/isa.h"
#include "common/log.h"

using namespace ansm_fast::ANSM_FAST_ISA;

static double relative(double found, double truth) { return std::fabs(found - truth) / truth; }

static void test_exp() {
  double worst_single = 0, worst_double = 0;
  for (int i = 0; i <= 200000; ++i) {
    const double x = -87.0 * i / 200000;
    worst_single =
        std::fmax(worst_single, relative(exp_nonpositive(float(x)), std::exp(double(float(x)))));
    worst_double = std::fmax(worst_double, relative(exp_nonpositive(8 * x), std::exp(8 * x)));
  }
  CHECK(worst_single < 2 * 1.2e-7);
  CHECK(worst_double < 2 * 2.3e-16);
  CHECK(exp_nonpositive(0.0f) == 1.0f && exp_nonpositive(0.0) == 1.0);
  CHECK(exp_nonpositive(-INFINITY) == 0.0f && exp_nonpositive(-1e4f) == 0.0f);
  CHECK(std::isnan(exp_nonpositive(NAN)));
}

static void test_log() {
  double worst = 0;
  for (double x = 1.2e-38; x < 1e38; x *= 1.0003) {
    const double truth = std::log(double(float(x)));
    if (std::fabs(truth) > 1e-3)
      worst = std::fmax(worst, std::fabs(log_positive(float(x)) / truth - 1));
  }
  CHECK(worst < 4 * 1.2e-7);
  CHECK(log_positive(1.0f) == 0.0f && log_positive(0.0f) == -INFINITY);
  CHECK(std::isnan(log_positive(NAN)));
}

static void test_half() {
  for (uint32_t raw = 0; raw < 65536; ++raw) {
    const float value = float_from_float16(uint16_t(raw));
    const bool nan = (raw & 0x7c00u) == 0x7c00u && (raw & 0x3ffu);
    CHECK(std::isnan(value) == nan);
    if (nan) continue;
    CHECK(float16_from_float(value) == raw);
    // Halfway to the next half: rounding goes to the even one.
    const float next = float_from_float16(uint16_t(raw + 1));
    if ((raw & 0x7fffu) < 0x7bffu)
      CHECK(float16_from_float((value + next) / 2) == (raw & 1u ? raw + 1 : raw));
    const float brain = float_from_bfloat16(uint16_t(raw));
    if (!std::isnan(brain)) CHECK(bfloat16_from_float(brain) == raw);
  }
  CHECK(float16_from_float(65520.0f) == 0x7c00u && float16_from_float(65519.0f) == 0x7bffu);
  CHECK(std::isnan(float_from_bfloat16(bfloat16_from_float(NAN))));
  // Blocks of any length, as eight at a time are converted together.
  for (int64_t n = 0; n < 40; ++n) {
    const std::vector<float> values = normal<float>(size_t(n), unsigned(n));
    std::vector<uint16_t> halves(size_t(n) + 1, 0xabcd);
    std::vector<float> back(size_t(n) + 1, -7.0f);
    narrow_float16(values.data(), n, halves.data());
    widen_float16(halves.data(), n, back.data());
    for (size_t i = 0; i < size_t(n); ++i) {
      CHECK(halves[i] == float16_from_float(values[i]));
      CHECK(back[i] == float_from_float16(halves[i]));
    }
    CHECK(halves[size_t(n)] == 0xabcd && back[size_t(n)] == -7.0f);
  }
}

void test_common() {
  test_exp();
  test_log();
  test_half();
}
