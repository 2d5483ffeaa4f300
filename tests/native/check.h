// As much of a test framework as these tests need.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

inline int failures = 0;

// TEST(name) { ... } defines a test, which main runs.
struct Test {
  const char* name;
  void (*run)();
};
inline std::vector<Test> tests;

#define TEST(name)                                                                      \
  static void test_##name();                                                            \
  static const bool registered_##name = (tests.push_back({#name, &test_##name}), true); \
  static void test_##name()

inline void check(bool holds, const char* what, const char* file, int line) {
  if (holds) return;
  ++failures;
  // A broken kernel fails thousands of times; the first few of each line say where.
  static std::map<std::pair<std::string, int>, int> shown;
  if (++shown[{file, line}] <= 3) std::printf("%s:%d: %s\n", file, line, what);
}
#define CHECK(condition) check(condition, #condition, __FILE__, __LINE__)

inline void check_below(double found, double bound, const char* what, const char* file, int line) {
  const std::string shown = what + (" = " + std::to_string(found / bound)) + " of what is allowed";
  check(found <= bound, shown.c_str(), file, line);
}
// Fails for NaN as well.
#define CHECK_BELOW(found, bound) check_below(found, bound, #found, __FILE__, __LINE__)

using Numbers = std::vector<double>;

// Largest difference relative to the largest true value; NaN and infinity must agree.
inline double error(const Numbers& found, const Numbers& truth) {
  if (found.size() != truth.size()) return INFINITY;
  double worst = 0, scale = 1e-30;
  for (size_t i = 0; i < truth.size(); ++i) {
    if (std::isfinite(truth[i])) {
      if (!std::isfinite(found[i])) return INFINITY;
      worst = std::fmax(worst, std::fabs(found[i] - truth[i]));
      scale = std::fmax(scale, std::fabs(truth[i]));
    } else if (std::isnan(truth[i]) ? !std::isnan(found[i]) : found[i] != truth[i]) {
      return INFINITY;
    }
  }
  return worst / scale;
}

inline Numbers normal(size_t n, unsigned seed, double scale = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> distribution(0, scale);
  Numbers values(n);
  for (double& value : values) value = distribution(generator);
  return values;
}

inline Numbers uniform(size_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> distribution(0, 1);
  Numbers values(n);
  for (double& value : values) value = distribution(generator);
  return values;
}

// Uneven pieces that begin anywhere, as threads get them.
template <class Run>
void in_pieces(size_t n, const Run& run) {
  const int64_t total = int64_t(n), first = total / 3, second = total - total / 4;
  run(int64_t(0), first);
  run(first, second);
  run(second, total);
}
