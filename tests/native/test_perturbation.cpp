#include "perturbation/cpu.h"

#include "check.h"
#include "perturbation/scales.h"

namespace kernel = ansm_fast::ANSM_FAST_ISA::perturbation;
using ansm_fast::ElementType;
using ansm_fast::Field;
using namespace ansm_fast::perturbation;

namespace {

double clip(double value, double low, double high) {
  return std::fmin(std::fmax(value, low), high);
}

double sign(double value) { return value > 0 ? 1 : value < 0 ? -1 : 0; }

double length(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

template <class A>
Field field(std::vector<A>& values) {
  return {values.data(), sizeof(A) == 4 ? ElementType::kFloat32 : ElementType::kFloat64};
}

template <class A>
void project(size_t n, Norm norm, double eps, double bound) {
  auto image = uniform<A>(n, 1), noise = normal<A>(n, 2, 0.1);
  std::vector<A> out(n);
  const Projection io{field(image), field(noise), field(out)};
  ProjectionSums sums;
  kernel::squared_sum_chunk<A>(io.perturbation, 0, int64_t(n), &sums);
  ProjectionScale scale;
  if (norm == Norm::kL2) scale.offset = shrink(std::sqrt(sums.squared), eps);
  kernel::project_chunk<A>(io, norm, {eps, 0, 0, 1}, scale, 0, int64_t(n));

  std::vector<double> truth(n);
  const double size = length({noise.begin(), noise.end()});
  for (size_t i = 0; i < n; ++i) {
    const double p = noise[i];
    const double kept =
        norm == Norm::kLinf ? clip(p, -eps, eps) : p * (size > eps ? eps / size : 1);
    truth[i] = clip(double(image[i]) + kept, 0, 1);
  }
  CHECK(error(out, truth) < bound);
}

template <class A>
void step(size_t n, Norm norm, bool momentum, double bound) {
  const double alpha = 0.03, eps = norm == Norm::kLinf ? 0.05 : 0.4, decay = 0.8;
  auto image = uniform<A>(n, 1), grad = normal<A>(n, 2), velocity = normal<A>(n, 3);
  auto adv = normal<A>(n, 4, 0.02);
  for (size_t i = 0; i < n; ++i) adv[i] += image[i];

  std::vector<double> direction(n), offset(n), moved(n), truth(n);
  double mean = 0;
  for (size_t i = 0; i < n; ++i) mean += std::fabs(double(grad[i])) / double(n);
  for (size_t i = 0; i < n; ++i)
    direction[i] =
        momentum ? decay * double(velocity[i]) + double(grad[i]) / mean : double(grad[i]);
  const double size = length(direction);
  for (size_t i = 0; i < n; ++i) {
    moved[i] = norm == Norm::kLinf ? sign(direction[i]) : direction[i] / size;
    offset[i] = double(adv[i]) + alpha * moved[i] - double(image[i]);
  }
  const double far = length(offset);
  for (size_t i = 0; i < n; ++i) {
    const double kept =
        norm == Norm::kLinf ? clip(offset[i], -eps, eps) : offset[i] * (far > eps ? eps / far : 1);
    truth[i] = clip(double(image[i]) + kept, 0, 1);
  }

  Step io;
  io.adv = field(adv);
  io.grad = field(grad);
  io.image = field(image);
  if (momentum) io.momentum = field(velocity);
  io.decay = decay;
  const Limits limits{eps, alpha, 0, 1};
  StepSums sums;
  kernel::step_sums_chunk<A>(io, 0, int64_t(n), &sums);
  sums.absolute_grad /= double(n);
  const StepScale scale = step_scale(sums, limits, norm, momentum, decay);
  kernel::step_chunk<A>(io, norm, limits, scale, 0, int64_t(n));
  CHECK(error(adv, truth) < bound);
  if (momentum) CHECK(error(velocity, direction) < bound);
}

}  // namespace

void test_perturbation() {
  for (const size_t n : {1u, 9u, 1024u, 3001u})
    for (const Norm norm : {Norm::kLinf, Norm::kL2}) {
      for (const double eps : {0.0, 0.05, 10.0}) {
        project<double>(n, norm, eps, 1e-13);
        project<float>(n, norm, eps, 1e-6);
      }
      for (const bool momentum : {false, true}) {
        step<double>(n, norm, momentum, 1e-12);
        step<float>(n, norm, momentum, 2e-6);
      }
    }
}
