// As much of a test framework as these tests need.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

inline int failures = 0;

inline void check(bool holds, const char* what, const char* file, int line) {
  if (holds) return;
  ++failures;
  std::printf("%s:%d: %s\n", file, line, what);
}
#define CHECK(condition) check(condition, #condition, __FILE__, __LINE__)

// Largest difference relative to the largest true value.
template <class A>
double error(const std::vector<A>& found, const std::vector<double>& truth) {
  double worst = 0, scale = 1e-30;
  for (size_t i = 0; i < truth.size(); ++i) {
    worst = std::fmax(worst, std::fabs(double(found[i]) - truth[i]));
    scale = std::fmax(scale, std::fabs(truth[i]));
    if (std::isnan(double(found[i])) != std::isnan(truth[i])) return INFINITY;
  }
  return worst / scale;
}

template <class A>
std::vector<A> normal(size_t n, unsigned seed, double scale = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> distribution(0, scale);
  std::vector<A> values(n);
  for (A& value : values) value = A(distribution(generator));
  return values;
}

template <class A>
std::vector<A> uniform(size_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> distribution(0, 1);
  std::vector<A> values(n);
  for (A& value : values) value = A(distribution(generator));
  return values;
}

void test_common();
void test_channelwise_kl();
void test_dual_mask();
void test_perturbation();
void test_image_pack();
