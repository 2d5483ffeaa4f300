#include "dual_mask/cpu.h"

#include "check.h"

namespace kernel = ansm_fast::ANSM_FAST_ISA::dual_mask;
using ansm_fast::ElementType;
using ansm_fast::Field;
using namespace ansm_fast::dual_mask;

namespace {

template <class A>
void run(size_t n, double pos_weight, bool ignore, double bound) {
  auto logits = normal<A>(n, 1, 4);
  auto target = uniform<A>(n, 2);
  std::vector<uint8_t> mask(n);
  for (size_t i = 0; i < n; ++i) mask[i] = uint8_t(i % (ignore ? 3 : 2));
  std::vector<A> gradient(n, A(9));
  const auto type = sizeof(A) == 4 ? ElementType::kFloat32 : ElementType::kFloat64;
  Inputs in;
  in.logits[0] = {logits.data(), type};
  in.mask[0] = {mask.data(), ElementType::kUInt8};
  in.target[0] = {target.data(), type};
  in.pos_weight = pos_weight;
  in.has_ignore = ignore;
  in.ignore = 2;

  Sums truth;
  std::vector<double> slope(n, 0.0);
  const Coefficients c{0.7, 0.2, 0.5};
  for (size_t i = 0; i < n; ++i) {
    if (ignore && mask[i] == 2) continue;
    const double z = logits[i], t = target[i], y = mask[i];
    const double p = 1 / (1 + std::exp(-z)), complement = 1 / (1 + std::exp(z));
    truth.bce += -(pos_weight * t * std::log(p) + (1 - t) * std::log(complement));
    truth.overlap += p * y;
    truth.probability += p;
    truth.area += y;
    truth.count += 1;
    slope[i] = c.bce * ((1 - t) * p - pos_weight * t * complement) +
               p * complement * (c.dice_base - c.dice_slope * y);
  }

  Sums sums[kMaxBranches];
  kernel::forward_chunk<A>(in, 0, int64_t(n), sums);
  const std::vector<double> found{sums[0].bce, sums[0].overlap, sums[0].probability, sums[0].area,
                                  sums[0].count};
  const std::vector<double> wanted{truth.bce, truth.overlap, truth.probability, truth.area,
                                   truth.count};
  CHECK(error(found, wanted) < bound);
  const Field out[kMaxBranches] = {{gradient.data(), type}, {}};
  const Coefficients coefficients[kMaxBranches] = {c, {}};
  kernel::backward_chunk<A>(in, coefficients, out, 0, int64_t(n));
  CHECK(error(gradient, slope) < bound);
}

}  // namespace

void test_dual_mask() {
  for (const size_t n : {1u, 15u, 1024u, 5000u})
    for (const double pos_weight : {1.0, 3.0})
      for (const bool ignore : {false, true}) {
        run<double>(n, pos_weight, ignore, 1e-12);
        run<float>(n, pos_weight, ignore, 3e-6);
      }
}
