#include "channelwise_kl/cpu.h"

#include "check.h"

namespace kernel = ansm_fast::ANSM_FAST_ISA::channelwise_kl;
using ansm_fast::ElementType;
using ansm_fast::Field;
using ansm_fast::channelwise_kl::Inputs;

namespace {

struct Truth {
  std::vector<double> kl, first, second;
};

// Straight from the formulas, gradients by the derivative of softmax.
template <class A>
Truth naive(const std::vector<A>& first, const std::vector<A>& second, size_t rows, size_t pixels,
            double temperature, double alpha) {
  Truth truth{std::vector<double>(rows), std::vector<double>(rows * pixels),
              std::vector<double>(rows * pixels)};
  for (size_t r = 0; r < rows; ++r) {
    std::vector<double> p(pixels), q(pixels);
    double zp = 0, zq = 0, mp = -1e300, mq = -1e300;
    for (size_t k = 0; k < pixels; ++k) {
      mp = std::fmax(mp, double(first[r * pixels + k]));
      mq = std::fmax(mq, double(second[r * pixels + k]));
    }
    for (size_t k = 0; k < pixels; ++k) {
      zp += p[k] = std::exp((double(first[r * pixels + k]) - mp) / temperature);
      zq += q[k] = std::exp((double(second[r * pixels + k]) - mq) / temperature);
    }
    double mean_h = 0, mean_g = 0;
    std::vector<double> h(pixels), g(pixels);
    for (size_t k = 0; k < pixels; ++k) {
      p[k] /= zp;
      q[k] /= zq;
      const double log_ratio = std::log((p[k] + alpha) / (q[k] + alpha));
      truth.kl[r] += p[k] * log_ratio;
      h[k] = log_ratio + p[k] / (p[k] + alpha);  // d KL / d p
      g[k] = -p[k] / (q[k] + alpha);             // d KL / d q
      mean_h += p[k] * h[k];
      mean_g += q[k] * g[k];
    }
    for (size_t k = 0; k < pixels; ++k) {
      truth.first[r * pixels + k] = p[k] * (h[k] - mean_h) / temperature;
      truth.second[r * pixels + k] = q[k] * (g[k] - mean_g) / temperature;
    }
  }
  return truth;
}

template <class A>
Field field(std::vector<A>& values) {
  return {values.data(), sizeof(A) == 4 ? ElementType::kFloat32 : ElementType::kFloat64};
}

template <class A>
std::vector<A> transposed(const std::vector<A>& values, size_t rows, size_t columns) {
  std::vector<A> result(values.size());
  for (size_t r = 0; r < rows; ++r)
    for (size_t c = 0; c < columns; ++c) result[c * rows + r] = values[r * columns + c];
  return result;
}

template <class A>
void run(size_t channels, size_t pixels, double temperature, double alpha, bool want_first,
         bool want_second, double bound) {
  auto first = normal<A>(channels * pixels, 1, 2), second = normal<A>(channels * pixels, 2, 2);
  const Truth truth = naive(first, second, channels, pixels, temperature, alpha);
  for (const bool last : {false, true}) {
    auto a = last ? transposed(first, channels, pixels) : first;
    auto b = last ? transposed(second, channels, pixels) : second;
    std::vector<A> to_a(a.size()), to_b(a.size());
    std::vector<double> kl(channels);
    Inputs in;
    in.first = field(a);
    in.second = field(b);
    if (want_first) in.grad_first = field(to_a);
    if (want_second) in.grad_second = field(to_b);
    in.pixels = int64_t(pixels);
    in.channels = int64_t(channels);
    in.channel_block = 48;
    in.inverse_temperature = 1 / temperature;
    in.gradient_scale = 1 / temperature;
    in.alpha = alpha;
    if (last) {
      kernel::columns_chunk<A>(in, 0, kernel::column_blocks(in), kl.data());
      to_a = transposed(to_a, pixels, channels);
      to_b = transposed(to_b, pixels, channels);
    } else {
      kernel::rows_chunk<A>(in, 0, int64_t(channels), kl.data());
    }
    CHECK(error(kl, truth.kl) < bound);
    if (want_first) CHECK(error(to_a, truth.first) < bound);
    if (want_second) CHECK(error(to_b, truth.second) < bound);
  }
}

void equal_inputs_give_zero() {
  for (const size_t pixels : {1u, 70u, 3000u}) {
    auto values = normal<float>(5 * pixels, 3, 100);
    std::vector<float> gradient(values.size(), 1.0f);
    std::vector<double> kl(5, 1.0);
    Inputs in;
    in.first = in.second = field(values);
    in.grad_first = field(gradient);
    in.pixels = int64_t(pixels);
    in.channels = 5;
    kernel::rows_chunk<float>(in, 0, 5, kl.data());
    for (const double value : kl) CHECK(value == 0);
    for (const float value : gradient) CHECK(value == 0);
    kernel::columns_chunk<float>(in, 0, 1, kl.data());
    for (const double value : kl) CHECK(value == 0);
  }
}

}  // namespace

void test_channelwise_kl() {
  for (const size_t channels : {1u, 17u, 130u})
    for (const size_t pixels : {1u, 7u, 64u, 65u, 2500u})
      for (const double temperature : {1.0, 4.0})
        for (const double alpha : {0.0, 1e-3})
          for (int wanted = 1; wanted < 4; ++wanted) {
            run<double>(channels, pixels, temperature, alpha, wanted & 1, wanted & 2, 1e-11);
            run<float>(channels, pixels, temperature, alpha, wanted & 1, wanted & 2, 1e-4);
          }
  equal_inputs_give_zero();
}
