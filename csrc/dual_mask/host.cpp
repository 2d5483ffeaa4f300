// Compiled once for each instruction set.
#include "dual_mask/host.h"

#include "dual_mask/cpu.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {

using ::ansm_fast::dual_mask::Coefficients;
using ::ansm_fast::dual_mask::Inputs;
using ::ansm_fast::dual_mask::Sums;

void dual_mask_forward(const Inputs& in, bool in_double, int64_t begin, int64_t end, Sums* sums) {
  in_double ? dual_mask::forward_chunk<double>(in, begin, end, sums)
            : dual_mask::forward_chunk<float>(in, begin, end, sums);
}

void dual_mask_backward(const Inputs& in, bool in_double, const Coefficients* coefficients,
                        const Field* gradient, int64_t begin, int64_t end) {
  in_double ? dual_mask::backward_chunk<double>(in, coefficients, gradient, begin, end)
            : dual_mask::backward_chunk<float>(in, coefficients, gradient, begin, end);
}

}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
