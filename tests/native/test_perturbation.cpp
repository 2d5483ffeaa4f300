// clamp_project and the attack steps forward; the gradients are in test_perturbation_backward.cpp.
#include "check.h"
#include "perturbation/cpu.h"
#include "perturbation/scales.h"
#include "typed.h"

namespace kernel = ansm_fast::ANSM_FAST_ISA::perturbation;
using namespace ansm_fast::perturbation;

namespace {

double clip(double value, double low, double high) {
  return std::fmin(std::fmax(value, low), high);
}

double sign(double value) { return value > 0 ? 1 : value < 0 ? -1 : 0; }

double length(const Numbers& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

double projected(double offset, Norm norm, double eps, double size) {
  return norm == Norm::kLinf ? clip(offset, -eps, eps) : offset * (size > eps ? eps / size : 1);
}

// Close to the exact result, and within the budget of the stored numbers where the type is a half.
void expect(const Typed& stored, const Numbers& truth, const Numbers& image, ElementType type,
            Norm norm, double eps) {
  const bool half = width(type) == 2;
  const Numbers found = stored.values();
  // One rounding, and in a half type up to one step back towards the image.
  CHECK_BELOW(error(found, truth), 20 * arithmetic(type) + (half ? 3 : 1) * rounding(type));
  if (!half) return;
  for (size_t i = 0; i < found.size(); ++i) {
    const double distance = std::fabs(found[i] - image[i]);
    if (norm == Norm::kLinf) CHECK(distance <= double(float(eps)));
    if (norm == Norm::kL2) CHECK(distance <= std::fabs(truth[i] - image[i]) + 1e-6);
  }
}

void project(ElementType type, size_t n, Norm norm, double eps) {
  Typed image(type, uniform(n, 1)), noise(type, normal(n, 2, 0.1)), out(type, Numbers(n, 9.0));
  const Numbers x = image.values(), p = noise.values();
  const Projection io{image.field(), noise.field(), out.field()};
  in_arithmetic_of(type, [&](auto zero) {
    using A = decltype(zero);
    ProjectionSums sums;
    ProjectionScale scale;
    in_pieces(n, [&](int64_t begin, int64_t end) {
      kernel::squared_sum_chunk<A>(io.perturbation, begin, end, &sums);
    });
    if (norm == Norm::kL2) scale.offset = shrink(std::sqrt(sums.squared), eps);
    in_pieces(n, [&](int64_t begin, int64_t end) {
      kernel::project_chunk<A>(io, norm, {eps, 0, 0.1, 0.9}, scale, begin, end);
    });
  });
  Numbers truth(n), inside_image(x);
  for (size_t i = 0; i < n; ++i) {
    truth[i] = clip(x[i] + projected(p[i], norm, eps, length(p)), 0.1, 0.9);
    // The budget is not owed to an image outside the range.
    inside_image[i] = x[i] < 0.1 || x[i] > 0.9 ? truth[i] : x[i];
  }
  const Numbers found = out.values();
  Numbers inside = found;
  for (size_t i = 0; i < n; ++i)
    if (x[i] < 0.1 || x[i] > 0.9) inside[i] = truth[i] = Typed(type, {truth[i]}).values()[0];
  CHECK_BELOW(error(found, truth), 20 * arithmetic(type) + 3 * rounding(type));
  for (size_t i = 0; i < n; ++i)
    if (x[i] < 0.1 || x[i] > 0.9) inside_image[i] = inside[i];
  expect(Typed(type, inside), truth, inside_image, type, norm, eps);
}

struct Attack {
  Numbers adv, velocity, grad, image;
};

// One step in double precision; gives (adv, velocity).
std::pair<Numbers, Numbers> naive(const Attack& a, Norm norm, bool momentum, double alpha,
                                  double eps, double decay) {
  const size_t n = a.adv.size();
  Numbers direction(a.grad), offset(n), adv(n);
  double mean = 0;
  for (const double g : a.grad) mean += std::fabs(g) / double(n);
  if (momentum)
    for (size_t i = 0; i < n; ++i)
      direction[i] = decay * a.velocity[i] + (mean > 0 ? a.grad[i] / mean : 0);
  const double size = length(direction);
  for (size_t i = 0; i < n; ++i) {
    const double unit = size > 0 ? direction[i] / size : 0;
    offset[i] = a.adv[i] + alpha * (norm == Norm::kLinf ? sign(direction[i]) : unit) - a.image[i];
  }
  const double far = length(offset);
  for (size_t i = 0; i < n; ++i)
    adv[i] = clip(a.image[i] + projected(offset[i], norm, eps, far), 0, 1);
  return {adv, direction};
}

void step(ElementType type, size_t n, Norm norm, bool momentum, double eps, double grad_size) {
  const double alpha = 0.03, decay = 0.8;
  Typed image(type, uniform(n, 1)), grad(type, normal(n, 2, grad_size)),
      velocity(type, normal(n, 3));
  Numbers start = normal(n, 4, 0.02);
  for (size_t i = 0; i < n; ++i) start[i] += image.values()[i];
  Typed adv(type, start);
  const auto [truth, direction] =
      naive({adv.values(), velocity.values(), grad.values(), image.values()}, norm, momentum, alpha,
            eps, decay);

  Step io;
  io.adv = adv.field();
  io.grad = grad.field();
  io.image = image.field();
  if (momentum) io.momentum = velocity.field();
  io.decay = decay;
  const Limits limits{eps, alpha, 0, 1};
  in_arithmetic_of(type, [&](auto zero) {
    using A = decltype(zero);
    StepSums sums, gradient_alone;
    in_pieces(n, [&](int64_t begin, int64_t end) {
      kernel::step_sums_chunk<A>(io, begin, end, &sums);
      kernel::absolute_sum_chunk<A>(io.grad, begin, end, &gradient_alone);
    });
    if (norm == Norm::kLinf) sums = gradient_alone;  // all that a step in linf looks at
    sums.absolute_grad /= double(n);
    const StepScale scale = step_scale(sums, limits, norm, momentum, decay);
    in_pieces(n, [&](int64_t begin, int64_t end) {
      kernel::step_chunk<A>(io, norm, limits, scale, begin, end);
    });
  });
  expect(adv, truth, image.values(), type, norm, eps);
  if (momentum)
    CHECK_BELOW(error(velocity.values(), direction), 20 * arithmetic(type) + 2 * rounding(type));
}

// NaN stays where it is, and a gradient of 0 or NaN has no sign.
template <class A>
void special_values(ElementType type) {
  Typed image(type, {0.5, NAN, 0.5, 0.5, 0.5, 0.5}), adv(type, {0.5, 0.5, NAN, 0.5, 0.5, 0.5});
  Typed grad(type, {1, 1, 1, 0, NAN, -INFINITY});
  Step io;
  io.adv = adv.field();
  io.grad = grad.field();
  io.image = image.field();
  kernel::step_chunk<A>(io, Norm::kLinf, {0.125, 0.0625, 0, 1}, {}, 0, 6);
  CHECK(error(adv.values(), {0.5625, NAN, NAN, 0.5, 0.5, 0.4375}) == 0);

  Typed other(type, {0.5, 0.5, NAN}), noise(type, {NAN, 0.5, 0.5}), out(type, {9, 9, 9});
  const Projection projection{other.field(), noise.field(), out.field()};
  kernel::project_chunk<A>(projection, Norm::kLinf, {0.125, 0, 0, 1}, {}, 0, 3);
  CHECK(error(out.values(), {NAN, 0.625, NAN}) == 0);
}

}  // namespace

TEST(perturbation) {
  for (const ElementType type : kFloating)
    for (const size_t n : {1u, 9u, 1024u, 3001u})
      for (const Norm norm : {Norm::kLinf, Norm::kL2}) {
        for (const double eps : {0.0, 0.05, 0.3, 10.0}) project(type, n, norm, eps);
        for (const bool momentum : {false, true})
          for (const double eps : {0.02, 0.05, 0.4})
            for (const double grad_size : {1.0, 0.0}) step(type, n, norm, momentum, eps, grad_size);
      }
  special_values<float>(ElementType::kFloat32);
  special_values<double>(ElementType::kFloat64);
  special_values<float>(ElementType::kFloat16);
  special_values<float>(ElementType::kBFloat16);
}
