#include "focal/cpu.h"

#include "check.h"
#include "typed.h"

namespace kernel = ansm_fast::ANSM_FAST_ISA::focal;
using namespace ansm_fast::focal;

namespace {

constexpr double kIgnored = 2;

struct Truth {
  Numbers losses, slope;
  double count = 0;
};

Truth naive(const Numbers& logits, const Numbers& mask, const Inputs& in) {
  Truth truth{Numbers(logits.size()), Numbers(logits.size())};
  for (size_t i = 0; i < logits.size(); ++i) {
    const double z = logits[i], y = mask[i];
    if (in.has_ignore && y == in.ignore) continue;
    const double p = 1 / (1 + std::exp(-z)), q = 1 / (1 + std::exp(z));
    // -log p and -log q; log1p alone would overflow for logits of 1e4.
    const double less = std::log1p(std::exp(-std::fabs(z)));
    const double entropy =
        in.pos_weight * y * (less + std::fmax(-z, 0)) + (1 - y) * (less + std::fmax(z, 0));
    const double miss = p * (1 - y) + q * y;
    const double weight = in.alpha < 0 ? 1 : in.alpha * y + (1 - in.alpha) * (1 - y);
    truth.losses[i] = weight * std::pow(miss, in.gamma) * entropy;
    const double slope = (1 - y) * p - in.pos_weight * y * q;
    // Of hard masks, miss is p or q, and nothing is divided by it.
    const double lever = y == 0 ? q : y == 1 ? -p : p * q * (1 - 2 * y) / miss;
    const double modulated = in.gamma == 0 ? slope : in.gamma * lever * entropy + slope;
    truth.slope[i] = weight * std::pow(miss, in.gamma) * modulated;
    truth.count += 1;
  }
  return truth;
}

Inputs with_options(double alpha, double gamma, double pos_weight) {
  Inputs in;
  in.alpha = alpha;
  in.gamma = gamma;
  in.pos_weight = pos_weight;
  return in;
}

struct Found {
  Numbers losses, slope, scaled;
  Sums sums;
};

// Loss by loss, summed up, and the gradient with a factor for all and with one for each pixel.
template <class A>
Found found_of(Inputs in, Typed& logits, Typed& mask, ElementType type, double factor,
               Typed& factors) {
  const size_t n = logits.values().size();
  Typed losses(type, Numbers(n, 9.0)), slope(type, Numbers(n, 9.0)), scaled(type, Numbers(n, 9.0));
  in.logits = logits.field();
  in.mask = mask.field();
  Sums sums;
  in_pieces(n, [&](int64_t begin, int64_t end) {
    kernel::forward_chunk<A>(in, begin, end, losses.field(), nullptr);
    kernel::forward_chunk<A>(in, begin, end, {}, &sums);
    kernel::backward_chunk<A>(in, factor, {}, slope.field(), begin, end);
    kernel::backward_chunk<A>(in, 0, factors.field(), scaled.field(), begin, end);
  });
  return {losses.values(), slope.values(), scaled.values(), sums};
}

void run(size_t n, ElementType type, ElementType mask_type, Inputs in) {
  Numbers values = uniform(n, 1);
  for (size_t i = 0; i < n; ++i) {
    if (width(mask_type) == 1 || i % 4 == 0) values[i] = values[i] > 0.6;
    if (in.has_ignore && i % 3 == 1) values[i] = in.ignore;
  }
  Typed logits(type, normal(n, 3, 4)), mask(mask_type, values), factors(type, normal(n, 5));
  const Truth truth = naive(logits.values(), mask.values(), in);
  Numbers slope = truth.slope, scaled = truth.slope;
  double total = 0;
  const Numbers own = factors.values();
  for (size_t i = 0; i < n; ++i) {
    total += truth.losses[i];
    slope[i] *= 0.7;
    scaled[i] *= own[i];
  }
  in_arithmetic_of(type, [&](auto zero) {
    const Found found = found_of<decltype(zero)>(in, logits, mask, type, 0.7, factors);
    const double bound = 20 * arithmetic(type) + rounding(type);
    CHECK_BELOW(error(found.losses, truth.losses), bound);
    CHECK_BELOW(error(found.slope, slope), bound);
    CHECK_BELOW(error(found.scaled, scaled), bound);
    CHECK_BELOW(error({found.sums.loss}, {total}), 100 * arithmetic(type));
    CHECK(found.sums.count == truth.count);
  });
}

struct One {
  double loss, slope;
};

template <class A>
One one(double logit, double target, const Inputs& in) {
  constexpr auto kType = sizeof(A) == 4 ? ElementType::kFloat32 : ElementType::kFloat64;
  Typed logits(kType, {logit}), mask(kType, {target}), factors(kType, {1.0});
  const Found found = found_of<A>(in, logits, mask, kType, 1, factors);
  CHECK(found.slope[0] == found.scaled[0] || std::isnan(found.slope[0]));
  return {found.losses[0], found.slope[0]};
}

template <class A>
void special_values() {
  for (const double gamma : {0.0, 0.5, 1.0, 2.0, 5.0}) {
    const Inputs in = with_options(0.25, gamma, 1);
    CHECK_BELOW(std::fabs(one<A>(1e4, 0, in).loss / 7500 - 1), 1e-6);
    CHECK_BELOW(std::fabs(one<A>(-1e4, 1, in).loss / 2500 - 1), 1e-6);
    CHECK_BELOW(std::fabs(one<A>(1e4, 0, in).slope - 0.75), 1e-6);
    CHECK_BELOW(std::fabs(one<A>(-1e4, 1, in).slope + 0.25), 1e-6);
    for (const double z : {17.0, 40.0, 100.0, 1e4}) {
      // Right, and the more so the larger the logit: p_t rounds to 1, the derivative tends to 0.
      CHECK(one<A>(z, 1, in).loss >= 0 && one<A>(z, 1, in).loss < 1e-7);
      CHECK(one<A>(z, 1, in).slope <= 0 && one<A>(z, 1, in).slope > -1e-7);
      CHECK(one<A>(-z, 0, in).slope >= 0 && one<A>(-z, 0, in).slope < 1e-7);
    }
    // Infinite where it is wrong, and 0 * infinity is nothing to train on either.
    CHECK(one<A>(INFINITY, 0, in).loss == INFINITY && one<A>(-INFINITY, 1, in).loss == INFINITY);
    CHECK(std::isnan(one<A>(INFINITY, 1, in).loss) && std::isnan(one<A>(-INFINITY, 0, in).loss));
    CHECK(std::isnan(one<A>(INFINITY, 0, in).slope) == (gamma > 0));
    for (const double y : {0.0, 1.0, 0.3})
      CHECK(std::isnan(one<A>(NAN, y, in).loss) && std::isnan(one<A>(NAN, y, in).slope));
    // What is no probability has no loss.
    for (const double y : {255.0, -1.0, double(NAN), 1.02})
      CHECK(std::isnan(one<A>(1, y, in).loss) && std::isnan(one<A>(1, y, in).slope));
    CHECK(one<A>(1, 1 + ansm_fast::kSlack / 2, in).loss == one<A>(1, 1, in).loss);
    CHECK(one<A>(1, -0.0, in).slope == one<A>(1, 0, in).slope);
  }
}

// Where nothing comes from the loss, nothing comes back, even of NaN.
void factors_of_zero() {
  Typed logits(ElementType::kFloat32, {NAN, 1, NAN, -2}), mask(ElementType::kUInt8, {0, 1, 1, 0});
  Typed factors(ElementType::kFloat32, {0, 1, 0, 1});
  const Found found = found_of<float>(Inputs(), logits, mask, ElementType::kFloat32, 0, factors);
  CHECK(found.slope == Numbers(4, 0.0));
  CHECK(found.scaled[0] == 0 && found.scaled[2] == 0);
  CHECK(found.scaled[1] < 0 && found.scaled[3] > 0);
}

// Every label but 0 is forged, unless it is the ignored one.
void labels() {
  Inputs in;
  Typed logits(ElementType::kFloat32, normal(6, 1)), factors(ElementType::kFloat32, Numbers(6, 1));
  Typed any(ElementType::kUInt8, {0, 1, 7, 255, 7, 0}),
      hard(ElementType::kBool, {0, 1, 1, 1, 1, 0});
  const auto found = [&](Typed& mask) {
    return found_of<float>(in, logits, mask, ElementType::kFloat32, 1, factors);
  };
  CHECK(found(any).losses == found(hard).losses && found(any).slope == found(hard).slope);
  in.has_ignore = true;
  in.ignore = 7;
  const Found fewer = found(any);
  CHECK(fewer.sums.count == 4 && fewer.losses[2] == 0 && fewer.slope[4] == 0);
  in.ignore = 255;
  logits = Typed(ElementType::kFloat32, {1, 1, 1, NAN, 1, 1});
  CHECK(found(any).sums.count == 5 && std::isfinite(found(any).sums.loss));
  CHECK(found(any).slope[3] == 0 && found(any).scaled[3] == 0);
}

}  // namespace

TEST(focal) {
  for (const ElementType type : kFloating)
    for (const size_t n : {1u, 15u, 1024u, 5000u})
      for (const double gamma : {0.0, 0.5, 1.0, 2.0, 3.5})
        for (const double alpha : {0.25, -1.0})
          for (const bool ignore : {false, true}) {
            Inputs in = with_options(alpha, gamma, ignore ? 3 : 1);
            in.has_ignore = ignore;
            in.ignore = kIgnored;
            run(n, type, ElementType::kUInt8, in);
            run(n, type, ElementType::kFloat32, in);
          }
  special_values<float>();
  special_values<double>();
  factors_of_zero();
  labels();
}
