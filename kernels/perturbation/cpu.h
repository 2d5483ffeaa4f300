// Clamp-and-project, gradient step and momentum step: host kernels, one chunk of one sample a call.
// The formulas, the traffic and what the budget means in each dtype are in README.md.
#pragma once

#include <cmath>
#include <cstdint>

#include "../common/isa.h"
#include "../common/staging.h"
#include "args.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {
namespace perturbation {

using namespace ansm_fast::perturbation;

template <class A>
ANSM_FAST_ELEMENT A clamped(A value, A low, A high) {  // NaN stays NaN
  value = value < low ? low : value;
  return value > high ? high : value;
}

template <class A>
ANSM_FAST_ELEMENT A sign_times(A value, A size) {  // 0 for NaN, as torch.sign
  return (value > A(0) ? size : A(0)) - (value < A(0) ? size : A(0));
}

ANSM_FAST_ELEMENT uint16_t toward(uint16_t raw, float value, float goal) {
  const uint16_t across = value > goal ? 0x8001u : 0x0001u;
  const uint16_t step = (value > goal) == (value > 0.0f) ? 0xffffu : 0x0001u;
  return value == 0.0f ? across : uint16_t(raw + step);
}

// A half type's rounding to nearest can leave the budget: one step back towards the image if so.
// `budget` is eps (linf), or negative for "no further than the exact result" (l2).
template <class A>
inline void commit_within(const Field& field, int64_t at, int64_t n, const A* values,
                          const A* image, A min, A max, A budget) {
  commit(field, at, n, values);
  if (field.type != ElementType::kFloat16 && field.type != ElementType::kBFloat16) return;
  float stored[kStagedBlock];
  fetch(field, at, n, stored);
  auto* raw = static_cast<uint16_t*>(field.data) + at;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float x = float(image[i]), distance = std::fabs(stored[i] - x);
    const float allowed = budget < A(0) ? std::fabs(float(values[i]) - x) : float(budget);
    const bool inside = x >= float(min) && x <= float(max);
    raw[i] = inside && distance > allowed ? toward(raw[i], stored[i], x) : raw[i];
  }
}

template <class A>
void step_sums_chunk(const Step& step, int64_t begin, int64_t end, StepSums* sums) {
  A adv_buffer[kStagedBlock], grad_buffer[kStagedBlock], image_buffer[kStagedBlock];
  A momentum_buffer[kStagedBlock] = {};
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* adv = fetch(step.adv, at, n, adv_buffer);
    const A* grad = fetch(step.grad, at, n, grad_buffer);
    const A* image = fetch(step.image, at, n, image_buffer);
    const A* momentum =
        step.momentum.data ? fetch(step.momentum, at, n, momentum_buffer) : momentum_buffer;
    double absolute = 0, gg = 0, gm = 0, mm = 0, gd = 0, md = 0, dd = 0;
#pragma omp simd reduction(+ : absolute, gg, gm, mm, gd, md, dd)
    for (int64_t i = 0; i < n; ++i) {
      const double g = grad[i], m = momentum[i], d = double(adv[i]) - double(image[i]);
      absolute += std::fabs(g);
      gg += g * g;
      gm += g * m;
      mm += m * m;
      gd += g * d;
      md += m * d;
      dd += d * d;
    }
    sums->absolute_grad += absolute;
    sums->grad_grad += gg;
    sums->grad_momentum += gm;
    sums->momentum_momentum += mm;
    sums->grad_offset += gd;
    sums->momentum_offset += md;
    sums->offset_offset += dd;
  }
}

// The one sum that a momentum step in linf needs: a read of the gradient alone.
template <class A>
void absolute_sum_chunk(const Field& grad, int64_t begin, int64_t end, StepSums* sums) {
  A buffer[kStagedBlock];
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* values = fetch(grad, at, n, buffer);
    double absolute = 0;
#pragma omp simd reduction(+ : absolute)
    for (int64_t i = 0; i < n; ++i) absolute += double(std::fabs(values[i]));
    sums->absolute_grad += absolute;
  }
}

template <class A, bool kLinf>
inline void step_block(const A* adv, const A* direction, const A* image, int64_t n,
                       const Limits& limits, const StepScale& scale, A* out) {
  const A alpha = A(limits.alpha), eps = A(limits.eps), min = A(limits.min), max = A(limits.max);
  const A along = A(scale.direction), shrink = A(scale.offset);
  const bool shrinks = scale.offset < 1;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const A x = image[i];
    A value;
    if constexpr (kLinf) {
      value = clamped(adv[i] + sign_times(direction[i], alpha), x - eps, x + eps);
      value = x == x ? value : x;
    } else {
      const A stepped = adv[i] + along * direction[i];
      value = shrinks ? x + (stepped - x) * shrink : stepped + (x - x);
    }
    out[i] = clamped(value, min, max);
  }
}

template <class A>
void step_chunk(const Step& step, Norm norm, const Limits& limits, const StepScale& scale,
                int64_t begin, int64_t end) {
  A adv_buffer[kStagedBlock], grad_buffer[kStagedBlock], image_buffer[kStagedBlock];
  A momentum_buffer[kStagedBlock];
  const A decay = A(step.decay), grad_scale = A(scale.grad);
  const bool linf = norm == Norm::kLinf;
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* adv = fetch(step.adv, at, n, adv_buffer);
    const A* grad = fetch(step.grad, at, n, grad_buffer);
    const A* image = fetch(step.image, at, n, image_buffer);
    const A* direction = grad;
    if (step.momentum.data) {
      A* momentum = destination(step.momentum, at, momentum_buffer);
      const A* before = fetch(step.momentum, at, n, momentum_buffer);
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) momentum[i] = decay * before[i] + grad_scale * grad[i];
      commit(step.momentum, at, n, momentum);
      direction = momentum;
    }
    A* out = destination(step.adv, at, adv_buffer);
    if (linf)
      step_block<A, true>(adv, direction, image, n, limits, scale, out);
    else
      step_block<A, false>(adv, direction, image, n, limits, scale, out);
    commit_within(step.adv, at, n, out, image, A(limits.min), A(limits.max),
                  linf ? A(limits.eps) : A(-1));
  }
}

template <class A>
void squared_sum_chunk(const Field& field, int64_t begin, int64_t end, ProjectionSums* sums) {
  A buffer[kStagedBlock];
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* values = fetch(field, at, n, buffer);
    double squared = 0;
#pragma omp simd reduction(+ : squared)
    for (int64_t i = 0; i < n; ++i) squared += double(values[i]) * double(values[i]);
    sums->squared += squared;
  }
}

template <class A>
ANSM_FAST_ELEMENT A projected(A value, Norm norm, A eps, A shrink) {
  return norm == Norm::kLinf ? clamped(value, -eps, eps) : value * shrink;
}

template <class A>
void project_chunk(const Projection& io, Norm norm, const Limits& limits,
                   const ProjectionScale& scale, int64_t begin, int64_t end) {
  A image_buffer[kStagedBlock], noise_buffer[kStagedBlock], out_buffer[kStagedBlock];
  const A eps = A(limits.eps), min = A(limits.min), max = A(limits.max), shrink = A(scale.offset);
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* image = fetch(io.image, at, n, image_buffer);
    const A* noise = fetch(io.perturbation, at, n, noise_buffer);
    A* out = destination(io.out, at, out_buffer);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i)
      out[i] = clamped(image[i] + projected(noise[i], norm, eps, shrink), min, max);
    commit_within(io.out, at, n, out, image, min, max, norm == Norm::kLinf ? eps : A(-1));
  }
}

template <class A>
void project_backward_sums_chunk(const ProjectionGradient& io, const Limits& limits,
                                 const ProjectionScale& scale, int64_t begin, int64_t end,
                                 ProjectionSums* sums) {
  A image_buffer[kStagedBlock], noise_buffer[kStagedBlock], grad_buffer[kStagedBlock];
  const A min = A(limits.min), max = A(limits.max), shrink = A(scale.offset);
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* image = fetch(io.image, at, n, image_buffer);
    const A* noise = fetch(io.perturbation, at, n, noise_buffer);
    const A* grad = fetch(io.grad_output, at, n, grad_buffer);
    double along = 0;
#pragma omp simd reduction(+ : along)
    for (int64_t i = 0; i < n; ++i) {
      const A value = image[i] + noise[i] * shrink;
      along += value >= min && value <= max ? double(noise[i]) * double(grad[i]) : 0.0;
    }
    sums->along += along;
  }
}

template <class A>
void project_backward_chunk(const ProjectionGradient& io, Norm norm, const Limits& limits,
                            const ProjectionScale& scale, int64_t begin, int64_t end) {
  A image_buffer[kStagedBlock], noise_buffer[kStagedBlock], grad_buffer[kStagedBlock];
  A out_image_buffer[kStagedBlock], out_noise_buffer[kStagedBlock];
  const A eps = A(limits.eps), min = A(limits.min), max = A(limits.max);
  const A shrink = A(scale.offset), radial = A(scale.radial);
  const bool linf = norm == Norm::kLinf;
  for (int64_t at = begin; at < end; at += kStagedBlock) {
    const int64_t n = end - at < kStagedBlock ? end - at : kStagedBlock;
    const A* image = fetch(io.image, at, n, image_buffer);
    const A* noise = fetch(io.perturbation, at, n, noise_buffer);
    const A* grad = fetch(io.grad_output, at, n, grad_buffer);
    A* to_image =
        io.grad_image.data ? destination(io.grad_image, at, out_image_buffer) : out_image_buffer;
    A* to_noise = io.grad_perturbation.data
                      ? destination(io.grad_perturbation, at, out_noise_buffer)
                      : out_noise_buffer;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const A p = noise[i], value = image[i] + projected(p, norm, eps, shrink);
      const A passed = value >= min && value <= max ? grad[i] : A(0);
      const A within = p >= -eps && p <= eps ? passed : A(0);
      to_image[i] = passed;
      to_noise[i] = linf ? within : shrink * (passed - p * radial);
    }
    if (io.grad_image.data) commit(io.grad_image, at, n, to_image);
    if (io.grad_perturbation.data) commit(io.grad_perturbation, at, n, to_noise);
  }
}

}  // namespace perturbation
}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
