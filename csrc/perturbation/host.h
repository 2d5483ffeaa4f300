// The entry points of csrc/perturbation/host.cpp. `in_double` computes in double.
#pragma once

#include "common/host_entry.h"
#include "perturbation/args.h"

// clang-format off
ANSM_FAST_FOR_EACH_ISA(
  void perturbation_step_sums(const ::ansm_fast::perturbation::Step& step, bool in_double,
                              int64_t begin, int64_t end,
                              ::ansm_fast::perturbation::StepSums* sums);
  void perturbation_absolute_sum(const ::ansm_fast::Field& grad, bool in_double, int64_t begin,
                                 int64_t end, ::ansm_fast::perturbation::StepSums* sums);
  void perturbation_step(const ::ansm_fast::perturbation::Step& step, bool in_double,
                         ::ansm_fast::perturbation::Norm norm,
                         const ::ansm_fast::perturbation::Limits& limits,
                         const ::ansm_fast::perturbation::StepScale& scale, int64_t begin,
                         int64_t end);
  void perturbation_squared_sum(const ::ansm_fast::Field& field, bool in_double, int64_t begin,
                                int64_t end, ::ansm_fast::perturbation::ProjectionSums* sums);
  void perturbation_project(const ::ansm_fast::perturbation::Projection& io, bool in_double,
                            ::ansm_fast::perturbation::Norm norm,
                            const ::ansm_fast::perturbation::Limits& limits,
                            const ::ansm_fast::perturbation::ProjectionScale& scale,
                            int64_t begin, int64_t end);
  void perturbation_project_backward_sums(
      const ::ansm_fast::perturbation::ProjectionGradient& io, bool in_double,
      const ::ansm_fast::perturbation::Limits& limits,
      const ::ansm_fast::perturbation::ProjectionScale& scale, int64_t begin, int64_t end,
      ::ansm_fast::perturbation::ProjectionSums* sums);
  void perturbation_project_backward(
      const ::ansm_fast::perturbation::ProjectionGradient& io, bool in_double,
      ::ansm_fast::perturbation::Norm norm, const ::ansm_fast::perturbation::Limits& limits,
      const ::ansm_fast::perturbation::ProjectionScale& scale, int64_t begin, int64_t end);
)
// clang-format on
