#include "dual_mask/cpu.h"

#include "check.h"
#include "typed.h"

namespace kernel = ansm_fast::ANSM_FAST_ISA::dual_mask;
using ansm_fast::kSlack;
using namespace ansm_fast::dual_mask;

namespace {

constexpr double kIgnored = 2;
constexpr Coefficients kCoefficients[kMaxBranches] = {{0.7, 0.2, 0.5}, {-0.3, 0.6, 0.1}};

struct Truth {
  Numbers sums;  // as in Sums
  Numbers slope;
};

Truth naive(const Numbers& logits, const Numbers& mask, const Numbers& target, double pos_weight,
            bool ignore, const Coefficients& c) {
  Truth truth{Numbers(5), Numbers(logits.size())};
  for (size_t i = 0; i < logits.size(); ++i) {
    if (ignore && mask[i] == kIgnored) continue;
    const double z = logits[i], t = target[i], y = mask[i];
    const double p = 1 / (1 + std::exp(-z)), complement = 1 / (1 + std::exp(z));
    // -log p and -log(1 - p); log1p alone would overflow for logits of 1e4.
    const double less = std::log1p(std::exp(-std::fabs(z)));
    const double miss = less + std::fmax(-z, 0), alarm = less + std::fmax(z, 0);
    truth.sums[0] += pos_weight * t * miss + (1 - t) * alarm;
    truth.sums[1] += p * y;
    truth.sums[2] += p;
    truth.sums[3] += y;
    truth.sums[4] += 1;
    truth.slope[i] = c.bce * ((1 - t) * p - pos_weight * t * complement) +
                     p * complement * (c.dice_base - c.dice_slope * y);
  }
  return truth;
}

struct Case {
  size_t n;
  ElementType type, mask_type;
  int branches = 1;
  bool own_mask = false;  // of the second branch
  bool soft_target = false;
  double pos_weight = 1;
  bool ignore = false;
};

Numbers some_mask(const Case& c, unsigned seed) {
  Numbers mask = uniform(c.n, seed);
  const bool soft = width(c.mask_type) > 1;
  for (size_t i = 0; i < c.n; ++i) {
    if (!soft) mask[i] = mask[i] > 0.6;
    if (c.ignore && i % 3 == seed % 3) mask[i] = kIgnored;
  }
  return Typed(c.mask_type, mask).values();
}

void run(const Case& c) {
  std::vector<Typed> logits, masks, targets, gradients;
  std::vector<Truth> truths;
  Inputs in;
  in.branches = c.branches;
  in.pos_weight = c.pos_weight;
  in.has_ignore = c.ignore;
  in.ignore = kIgnored;
  Numbers mask;
  for (unsigned branch = 0; branch < unsigned(c.branches); ++branch) {
    if (branch == 0 || c.own_mask) mask = some_mask(c, branch);
    const Numbers target = c.soft_target ? uniform(c.n, 7 + branch) : mask;
    logits.emplace_back(c.type, normal(c.n, 3 + branch, 4));
    masks.emplace_back(c.mask_type, mask);
    targets.emplace_back(c.soft_target ? ElementType::kFloat32 : c.mask_type, target);
    gradients.emplace_back(c.type, Numbers(c.n, 9.0));
    truths.push_back(naive(logits.back().values(), mask, targets.back().values(), c.pos_weight,
                           c.ignore, kCoefficients[branch]));
  }
  Field out[kMaxBranches];
  for (size_t branch = 0; branch < size_t(c.branches); ++branch) {
    in.logits[branch] = logits[branch].field();
    if (branch == 0 || c.own_mask) in.mask[branch] = masks[branch].field();
    if (c.soft_target) in.target[branch] = targets[branch].field();
    out[branch] = gradients[branch].field();
  }

  Sums sums[kMaxBranches];
  in_arithmetic_of(c.type, [&](auto zero) {
    using A = decltype(zero);
    in_pieces(c.n, [&](int64_t begin, int64_t end) {
      kernel::forward_chunk<A>(in, begin, end, sums);
      kernel::backward_chunk<A>(in, kCoefficients, out, begin, end);
    });
  });
  for (size_t branch = 0; branch < size_t(c.branches); ++branch) {
    const Sums& s = sums[branch];
    const Numbers found{s.bce, s.overlap, s.probability, s.area, s.count};
    for (size_t i = 0; i < found.size(); ++i)
      CHECK_BELOW(error({found[i]}, {truths[branch].sums[i]}), 100 * arithmetic(c.type));
    CHECK_BELOW(error(gradients[branch].values(), truths[branch].slope),
                10 * arithmetic(c.type) + rounding(c.type));
  }
}

// Only the second branch asks for a gradient, and shares the first one's mask.
void one_gradient_of_two() {
  Typed logits(ElementType::kFloat32, normal(2000, 1)), mask(ElementType::kUInt8, Numbers(2000, 1));
  Typed gradient(ElementType::kFloat32, Numbers(2000, 9.0));
  Inputs in;
  in.branches = 2;
  in.logits[0] = in.logits[1] = logits.field();
  in.mask[0] = mask.field();
  const Field out[kMaxBranches] = {{}, gradient.field()};
  kernel::backward_chunk<float>(in, kCoefficients, out, 0, 2000);
  const Truth truth =
      naive(logits.values(), mask.values(), mask.values(), 1, false, kCoefficients[1]);
  CHECK_BELOW(error(gradient.values(), truth.slope), 1e-6);
}

template <class A>
void special_values(ElementType type) {
  const auto bce = [&](double logit, double target) {
    Typed logits(type, {logit}), mask(type, {target}), gradient(type, {9.0});
    Inputs in;
    in.logits[0] = logits.field();
    in.mask[0] = mask.field();
    Sums sums[kMaxBranches];
    kernel::forward_chunk<A>(in, 0, 1, sums);
    const Field out[kMaxBranches] = {gradient.field(), {}};
    kernel::backward_chunk<A>(in, kCoefficients, out, 0, 1);
    const double slope = gradient.values()[0];
    CHECK(std::isnan(logit) ? std::isnan(slope) : std::fabs(slope) < 2);
    return sums[0].bce;
  };
  CHECK(bce(1e4, 0) == 1e4 && bce(-1e4, 1) == 1e4);
  CHECK(bce(1e4, 1) < 1e-30 && bce(-1e4, 0) < 1e-30);
  // Infinite where it is wrong, and 0 * infinity is nothing to train on either.
  CHECK(bce(INFINITY, 0) == INFINITY && std::isnan(bce(INFINITY, 1)));
  CHECK(std::isnan(bce(-INFINITY, 0)) && bce(-INFINITY, 1) == INFINITY);
  CHECK(std::isnan(bce(NAN, 0)) && std::isnan(bce(NAN, 1)));
}

// What a mask of these values gives.
struct Found {
  Sums sums;
  Numbers slope;
};

template <class A>
Found found_of(ElementType mask_type, const Numbers& mask_values, double ignore = NAN,
               const Coefficients& c = kCoefficients[0]) {
  const size_t n = mask_values.size();
  constexpr auto kType = sizeof(A) == 4 ? ElementType::kFloat32 : ElementType::kFloat64;
  Typed logits(kType, normal(n, 5)), mask(mask_type, mask_values), gradient(kType, Numbers(n, 9.0));
  Inputs in;
  in.logits[0] = logits.field();
  in.mask[0] = mask.field();
  in.has_ignore = !std::isnan(ignore);
  in.ignore = in.has_ignore ? ignore : 0;
  Found found;
  Sums sums[kMaxBranches];
  const Field out[kMaxBranches] = {gradient.field(), {}};
  const Coefficients coefficients[kMaxBranches] = {c, {}};
  kernel::forward_chunk<A>(in, 0, int64_t(n), sums);
  kernel::backward_chunk<A>(in, coefficients, out, 0, int64_t(n));
  return {sums[0], gradient.values()};
}

template <class A>
void odd_masks() {
  Numbers labels(1500, 0.0), hard(1500, 0.0), ignored(1500, 0.0);
  for (size_t i = 0; i < labels.size(); i += 3) {
    labels[i] = i % 2 ? 255 : 7;
    hard[i] = 1;
    ignored[i] = i % 2 ? -100 : 1;
  }
  const Found plain = found_of<A>(ElementType::kUInt8, hard);
  // Every label but 0 is forged, unless it is the ignored one.
  const Found any = found_of<A>(ElementType::kUInt8, labels);
  CHECK(any.sums.area == 500 && any.sums.bce == plain.sums.bce && any.slope == plain.slope);
  const Found fewer = found_of<A>(ElementType::kUInt8, labels, 7);
  CHECK(fewer.sums.count == 1250 && fewer.sums.area == 250 && fewer.slope[0] == 0);
  const Found none = found_of<A>(ElementType::kUInt8, labels, -1);
  CHECK(none.sums.count == 1500 && none.sums.area == 500);
  const Found soft = found_of<A>(ElementType::kFloat32, ignored, -100);
  CHECK(soft.sums.count == 1250 && soft.sums.area == 250 && soft.slope[3] == 0);
  const Found ones = found_of<A>(ElementType::kFloat32, hard, 1);
  CHECK(ones.sums.count == 1000 && ones.sums.area == 0 && ones.slope[0] == 0);
  // Rounded numbers are 0 or 1.
  Numbers rounded = hard;
  for (double& y : rounded) y = y > 0 ? 1 + kSlack / 2 : -kSlack / 2;
  const Found near = found_of<A>(ElementType::kFloat32, rounded);
  CHECK(near.sums.area == 500 && near.sums.bce == plain.sums.bce && near.slope == plain.slope);
  Numbers negative_zero = hard;
  for (double& y : negative_zero) y = y > 0 ? 1.0 : -0.0;
  CHECK(found_of<A>(ElementType::kFloat32, negative_zero).slope == plain.slope);
  // What is no probability is no number in any sum, wherever it stands.
  for (const size_t at : {size_t(0), size_t(1023), size_t(1300), size_t(1499)})
    for (const double wrong : {255.0, -1.0, double(INFINITY), double(NAN)}) {
      Numbers broken = hard;
      broken[at] = wrong;
      const Found found = found_of<A>(ElementType::kFloat32, broken);
      CHECK(std::isnan(found.sums.bce) && std::isnan(found.sums.area));
      CHECK(std::isnan(found.sums.overlap) && std::isnan(found.slope[at]));
      CHECK(found.sums.count == 1500 && !std::isnan(found.sums.probability));
    }
  // Without coefficients the gradient is 0, whatever the logits.
  const Found zero = found_of<A>(ElementType::kUInt8, hard, NAN, Coefficients{});
  CHECK(zero.slope == Numbers(1500, 0.0));
}

}  // namespace

TEST(dual_mask) {
  for (const ElementType type : kFloating)
    for (const size_t n : {1u, 15u, 1024u, 5000u})
      for (const double pos_weight : {1.0, 3.0})
        for (const bool ignore : {false, true}) {
          run({n, type, ElementType::kUInt8, 1, false, false, pos_weight, ignore});
          run({n, type, ElementType::kUInt8, 2, false, true, pos_weight, ignore});
          run({n, type, type, 2, true, false, pos_weight, ignore});
          run({n, type, ElementType::kFloat32, 2, true, true, pos_weight, ignore});
        }
  one_gradient_of_two();
  special_values<float>(ElementType::kFloat32);
  special_values<double>(ElementType::kFloat64);
  odd_masks<float>();
  odd_masks<double>();
}
