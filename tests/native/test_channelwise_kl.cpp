#include "channelwise_kl/cpu.h"

#include "check.h"
#include "typed.h"

namespace kernel = ansm_fast::ANSM_FAST_ISA::channelwise_kl;
using ansm_fast::channelwise_kl::Inputs;
using ansm_fast::channelwise_kl::Scaling;

namespace {

struct Truth {
  Numbers kl, first, second;
};

// Straight from the formulas, gradients by the derivative of softmax. Row by row, (rows, pixels).
Truth naive(const Numbers& first, const Numbers& second, size_t rows, size_t pixels,
            double temperature, double alpha) {
  Truth truth{Numbers(rows), Numbers(rows * pixels), Numbers(rows * pixels)};
  for (size_t r = 0; r < rows; ++r) {
    Numbers p(pixels), q(pixels), h(pixels), g(pixels);
    double zp = 0, zq = 0, mp = -INFINITY, mq = -INFINITY, mean_h = 0, mean_g = 0;
    for (size_t k = 0; k < pixels; ++k) {
      mp = std::fmax(mp, first[r * pixels + k]);
      mq = std::fmax(mq, second[r * pixels + k]);
    }
    for (size_t k = 0; k < pixels; ++k) {
      zp += p[k] = std::exp((first[r * pixels + k] - mp) / temperature);
      zq += q[k] = std::exp((second[r * pixels + k] - mq) / temperature);
    }
    for (size_t k = 0; k < pixels; ++k) {
      p[k] /= zp;
      q[k] /= zq;
      if (p[k] == 0 && alpha == 0) continue;  // 0 log 0 is 0
      // Not log(p / q): q may be too small for a double where its logarithm is not.
      const double log_ratio = alpha > 0
                                   ? std::log((p[k] + alpha) / (q[k] + alpha))
                                   : (first[r * pixels + k] - mp) / temperature - std::log(zp) -
                                         (second[r * pixels + k] - mq) / temperature + std::log(zq);
      truth.kl[r] += p[k] * log_ratio;
      h[k] = log_ratio + p[k] / (p[k] + alpha);  // d KL / d p
      mean_h += p[k] * h[k];
    }
    for (size_t k = 0; k < pixels; ++k) {
      // q * (d KL / d q), which is -p for alpha = 0 whatever q is.
      g[k] = alpha > 0 ? -q[k] * p[k] / (q[k] + alpha) : -p[k];
      mean_g += g[k];
    }
    for (size_t k = 0; k < pixels; ++k) {
      truth.first[r * pixels + k] = p[k] * (h[k] - mean_h) / temperature;
      truth.second[r * pixels + k] = (g[k] - q[k] * mean_g) / temperature;
    }
  }
  return truth;
}

// (samples, rows, columns) -> (samples, columns, rows)
Numbers transposed(const Numbers& values, size_t samples, size_t rows, size_t columns) {
  Numbers result(values.size());
  for (size_t s = 0; s < samples; ++s)
    for (size_t r = 0; r < rows; ++r)
      for (size_t c = 0; c < columns; ++c)
        result[(s * columns + c) * rows + r] = values[(s * rows + r) * columns + c];
  return result;
}

struct Case {
  size_t samples, channels, pixels;
  double temperature = 1, alpha = 0;
  bool want_first = true, want_second = true;
  double factor = 1;  // on the gradients, as the reduction has it
  int64_t channel_block = 48;
};

// Runs the rows or (last) the columns kernel in pieces; gives (KL, gradients) as rows.
template <class A>
Truth run(const Case& c, ElementType type, const Numbers& first, const Numbers& second, bool last) {
  const size_t rows = c.samples * c.channels;
  const auto order = [&](const Numbers& values) {
    return last ? transposed(values, c.samples, c.channels, c.pixels) : values;
  };
  Typed a(type, order(first)), b(type, order(second));
  Typed to_a(type, Numbers(first.size(), 5.0)), to_b(type, Numbers(first.size(), 5.0));
  Truth found{Numbers(rows, 5.0), {}, {}};
  Inputs in;
  in.first = a.field();
  in.second = b.field();
  if (c.want_first) in.grad_first = to_a.field();
  if (c.want_second) in.grad_second = to_b.field();
  in.pixels = int64_t(c.pixels);
  in.channels = int64_t(c.channels);
  in.channel_block = c.channel_block;
  in.inverse_temperature = 1 / c.temperature;
  in.gradient_scale = c.factor / c.temperature;
  in.alpha = c.alpha;
  const size_t units = last ? c.samples * size_t(kernel::column_blocks(in)) : rows;
  in_pieces(units, [&](int64_t begin, int64_t end) {
    last ? kernel::columns_chunk<A>(in, begin, end, found.kl.data())
         : kernel::rows_chunk<A>(in, begin, end, found.kl.data());
  });
  const auto back = [&](const Typed& values) {
    return last ? transposed(values.values(), c.samples, c.pixels, c.channels) : values.values();
  };
  found.first = back(to_a);
  found.second = back(to_b);
  return found;
}

void against_naive(const Case& c, ElementType type) {
  const size_t n = c.samples * c.channels * c.pixels;
  const Numbers first = Typed(type, normal(n, 1, 2)).values();
  const Numbers second = Typed(type, normal(n, 2, 2)).values();
  Truth truth = naive(first, second, c.samples * c.channels, c.pixels, c.temperature, c.alpha);
  for (double& value : truth.first) value *= c.factor;
  for (double& value : truth.second) value *= c.factor;
  // KL is the difference of sums that are larger than it.
  const double bound = 500 * arithmetic(type);
  for (const bool last : {false, true})
    in_arithmetic_of(type, [&](auto zero) {
      const Truth found = run<decltype(zero)>(c, type, first, second, last);
      CHECK_BELOW(error(found.kl, truth.kl), bound);
      const double gradient_bound = bound + rounding(type);
      if (c.want_first) CHECK_BELOW(error(found.first, truth.first), gradient_bound);
      if (c.want_second) CHECK_BELOW(error(found.second, truth.second), gradient_bound);
    });
}

void equal_inputs_give_zero() {
  for (const size_t pixels : {1u, 70u, 3000u})
    for (const ElementType type : kFloating)
      in_arithmetic_of(type, [&](auto zero) {
        const Numbers values = normal(5 * pixels, 3, 100);
        for (const bool last : {false, true}) {
          const Truth found = run<decltype(zero)>({1, 5, pixels}, type, values, values, last);
          for (const double value : found.kl) CHECK(value == 0);
          for (const double value : found.first) CHECK(value == 0);
          for (const double value : found.second) CHECK(value == 0);
        }
      });
}

// Huge logits stay exact; infinities and NaN do what the formula does, and nothing to other rows.
void special_values() {
  const size_t pixels = 150;
  enum Row { kPlain, kHuge, kNan, kBothOut, kSecondOut, kAllOut, kInfinite, kLateMaximum, kRows };
  Numbers first = normal(kRows * pixels, 1), second = normal(kRows * pixels, 2);
  const auto at = [&](Row row, size_t k) { return row * pixels + k; };
  for (size_t k = 0; k < pixels; ++k) {
    first[at(kHuge, k)] = k % 3 ? 1e4 : -1e4;
    second[at(kHuge, k)] = k % 2 ? 1e4 : -1e4;
    first[at(kAllOut, k)] = -INFINITY;
    first[at(kLateMaximum, k)] += double(k) * 3;  // each tile raises the maximum
    second[at(kLateMaximum, k)] -= double(k) * 3;
  }
  first[at(kNan, 100)] = NAN;
  first[at(kBothOut, 7)] = second[at(kBothOut, 7)] = -INFINITY;
  second[at(kSecondOut, 7)] = -INFINITY;
  first[at(kInfinite, 140)] = INFINITY;
  const Truth truth = naive(first, second, kRows, pixels, 1, 0);
  for (const ElementType type : {ElementType::kFloat32, ElementType::kFloat64})
    for (const bool last : {false, true})
      in_arithmetic_of(type, [&](auto zero) {
        const Truth found = run<decltype(zero)>({1, kRows, pixels}, type, first, second, last);
        for (const Row row : {kPlain, kHuge, kBothOut, kLateMaximum}) {
          CHECK_BELOW(error({found.kl[row]}, {truth.kl[row]}), 1e4 * arithmetic(type));
          const auto slice = [&](const Numbers& values) {
            return Numbers(values.begin() + long(row * pixels),
                           values.begin() + long((row + 1) * pixels));
          };
          CHECK_BELOW(error(slice(found.first), slice(truth.first)), 1e4 * arithmetic(type));
          CHECK_BELOW(error(slice(found.second), slice(truth.second)), 1e4 * arithmetic(type));
        }
        for (const Row row : {kNan, kAllOut, kInfinite}) CHECK(std::isnan(found.kl[row]));
        CHECK(found.kl[kSecondOut] == INFINITY);
      });
}

// The backward: every gradient times its row's factor.
void scaled_gradients(ElementType type, size_t samples, size_t channels, size_t pixels) {
  const size_t n = samples * channels * pixels;
  Typed gradient(type, normal(n, 1));
  const Numbers given = gradient.values(), factor = normal(samples * channels, 2);
  for (const bool last : {false, true})
    for (const bool in_place : {false, true}) {
      Typed source(type, given), out(type, Numbers(n, 5.0));
      Typed& result = in_place ? source : out;
      const Scaling io{source.field(), result.field(), factor.data(), int64_t(pixels),
                       int64_t(channels)};
      in_arithmetic_of(type, [&](auto zero) {
        using A = decltype(zero);
        in_pieces(last ? samples * pixels : samples * channels, [&](int64_t begin, int64_t end) {
          last ? kernel::scale_columns_chunk<A>(io, begin, end)
               : kernel::scale_rows_chunk<A>(io, begin, end);
        });
      });
      Numbers truth(n);
      for (size_t i = 0; i < n; ++i) {
        const size_t row = last ? i / (pixels * channels) * channels + i % channels : i / pixels;
        truth[i] = given[i] * factor[row];
      }
      CHECK_BELOW(error(result.values(), truth), 2 * rounding(type));
    }
}

}  // namespace

TEST(channelwise_kl) {
  for (const size_t channels : {1u, 17u, 130u})
    for (const size_t pixels : {1u, 7u, 64u, 65u, 1500u})
      for (const double alpha : {0.0, 1e-3})
        for (int wanted = 0; wanted < 4; ++wanted)
          for (const ElementType type : {ElementType::kFloat32, ElementType::kFloat64})
            against_naive({1, channels, pixels, 4, alpha, bool(wanted & 1), bool(wanted & 2)},
                          type);
  for (const ElementType type : kFloating)
    for (const double alpha : {0.0, 1e-2})
      for (const int64_t block : {16, 256}) {
        against_naive({3, 300, 70, 1, alpha, true, true, 0.25, block}, type);
        against_naive({2, 5, 1100, 2, alpha, true, false, 3, block}, type);
      }
  equal_inputs_give_zero();
  special_values();
  for (const ElementType type : kFloating) {
    scaled_gradients(type, 3, 7, 1100);
    scaled_gradients(type, 2, 1100, 3);
  }
}
