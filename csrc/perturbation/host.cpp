// Compiled once for each instruction set.
#include "perturbation/host.h"

#include "perturbation/cpu.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {

using namespace ::ansm_fast::perturbation;

void perturbation_step_sums(const Step& step, bool in_double, int64_t begin, int64_t end,
                            StepSums* sums) {
  in_double ? perturbation::step_sums_chunk<double>(step, begin, end, sums)
            : perturbation::step_sums_chunk<float>(step, begin, end, sums);
}

void perturbation_absolute_sum(const Field& grad, bool in_double, int64_t begin, int64_t end,
                               StepSums* sums) {
  in_double ? perturbation::absolute_sum_chunk<double>(grad, begin, end, sums)
            : perturbation::absolute_sum_chunk<float>(grad, begin, end, sums);
}

void perturbation_step(const Step& step, bool in_double, Norm norm, const Limits& limits,
                       const StepScale& scale, int64_t begin, int64_t end) {
  in_double ? perturbation::step_chunk<double>(step, norm, limits, scale, begin, end)
            : perturbation::step_chunk<float>(step, norm, limits, scale, begin, end);
}

void perturbation_squared_sum(const Field& field, bool in_double, int64_t begin, int64_t end,
                              ProjectionSums* sums) {
  in_double ? perturbation::squared_sum_chunk<double>(field, begin, end, sums)
            : perturbation::squared_sum_chunk<float>(field, begin, end, sums);
}

void perturbation_project(const Projection& io, bool in_double, Norm norm, const Limits& limits,
                          const ProjectionScale& scale, int64_t begin, int64_t end) {
  in_double ? perturbation::project_chunk<double>(io, norm, limits, scale, begin, end)
            : perturbation::project_chunk<float>(io, norm, limits, scale, begin, end);
}

void perturbation_project_backward_sums(const ProjectionGradient& io, bool in_double,
                                        const Limits& limits, const ProjectionScale& scale,
                                        int64_t begin, int64_t end, ProjectionSums* sums) {
  in_double ? perturbation::project_backward_sums_chunk<double>(io, limits, scale, begin, end, sums)
            : perturbation::project_backward_sums_chunk<float>(io, limits, scale, begin, end, sums);
}

void perturbation_project_backward(const ProjectionGradient& io, bool in_double, Norm norm,
                                   const Limits& limits, const ProjectionScale& scale,
                                   int64_t begin, int64_t end) {
  in_double ? perturbation::project_backward_chunk<double>(io, norm, limits, scale, begin, end)
            : perturbation::project_backward_chunk<float>(io, norm, limits, scale, begin, end);
}

}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
