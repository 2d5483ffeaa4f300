// exp, log and the logistic parts in units in the last place, over their whole ranges.
#include "check.h"
#include "common/isa.h"
#include "common/log.h"
#include "common/logistic.h"
#include "dual_mask/cpu.h"

using namespace ansm_fast::ANSM_FAST_ISA;

namespace {

template <class A>
double ulps(A found, long double truth) {
  constexpr int kFraction = sizeof(A) == 4 ? 23 : 52, kLeast = sizeof(A) == 4 ? -126 : -1022;
  const int own = std::ilogb(truth), exponent = own < kLeast ? kLeast : own;
  return double(std::fabs(found - truth) / std::ldexp(1.0L, exponent - kFraction));
}

// The largest error of `found` on [low, high], and on numbers that crowd towards low.
template <class A, class Found, class Truth>
double worst(double low, double high, const Found& found, const Truth& truth) {
  double result = 0;
  const auto look = [&](A x) { result = std::fmax(result, ulps(found(x), truth(x))); };
  for (int i = 0; i <= 200000; ++i) look(A(low + (high - low) * i / 200000));
  for (double step = high - low; step > 1e-6; step *= 0.999) look(A(low + step));
  return result;
}

template <class A>
void test_exp(double end) {
  const auto found = [](A x) { return exp_nonpositive(x); };
  const auto truth = [](A x) { return std::exp((long double)(x)); };
  CHECK_BELOW(worst<A>(-end, 0, found, truth), 2);
  CHECK_BELOW(worst<A>(0, -end, found, truth), 2);
  CHECK_BELOW(worst<A>(0, end, [](A x) { return exp_normal(x); }, truth), 2);
  CHECK(exp_nonpositive(A(0)) == A(1));
  CHECK(exp_nonpositive(-A(INFINITY)) == A(0) && exp_nonpositive(A(-1e4)) == A(0));
  CHECK(exp_nonpositive(std::numeric_limits<A>::lowest()) == A(0));
  CHECK(std::isnan(exp_nonpositive(A(NAN))));
}

void test_log() {
  double result = 0;
  for (double x = 1.2e-38; x < 3e38; x *= 1.0003)
    if (float(x) != 1.0f)
      result = std::fmax(result, ulps(log_positive(float(x)), std::log((long double)(float(x)))));
  for (float x = 0.5f; x < 2.0f; x = x * 1.00001f)
    if (x != 1.0f) result = std::fmax(result, ulps(log_positive(x), std::log((long double)(x))));
  CHECK_BELOW(result, 2);
  CHECK(log_positive(1.0f) == 0.0f && log_positive(0.0f) == -INFINITY);
  CHECK(std::isnan(log_positive(NAN)));
}

template <class A>
void test_logistic() {
  const auto log = [](A e) { return log_of_one_plus(e); };
  CHECK_BELOW(worst<A>(1e-9, 1, log, [](A e) { return std::log1p((long double)(e)); }), 2);
  CHECK(log(A(0)) == A(0));

  // 0, tiny ones whose 1 + e is 1, and up to 1, where 64 of them make 2^64.
  for (const double e : {0.0, 1e-30, 1e-9, 0.25, 1.0})
    for (const int64_t n : {1, 2, 63, 64, 96, 1000, 1024}) {
      std::vector<A> numbers(static_cast<size_t>(n), A(e));
      const double found = dual_mask::sum_of_log_of_one_plus(numbers.data(), n);
      const double truth = double(n) * std::log1p(double(A(e)));
      CHECK(std::fabs(found - truth) <= 32 * truth * std::numeric_limits<A>::epsilon());
    }
}

}  // namespace

TEST(common) {
  test_exp<float>(87);
  test_exp<double>(708);
  test_log();
  test_logistic<float>();
  test_logistic<double>();
}
