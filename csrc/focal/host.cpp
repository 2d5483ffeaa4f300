// Compiled once for each instruction set.
#include "focal/host.h"

#include "focal/cpu.h"

namespace ansm_fast {
namespace ANSM_FAST_ISA {

using ::ansm_fast::focal::Inputs;
using ::ansm_fast::focal::Sums;

void focal_forward(const Inputs& in, bool in_double, int64_t begin, int64_t end, const Field& each,
                   Sums* sums) {
  in_double ? focal::forward_chunk<double>(in, begin, end, each, sums)
            : focal::forward_chunk<float>(in, begin, end, each, sums);
}

void focal_backward(const Inputs& in, bool in_double, double factor, const Field& factors,
                    const Field& gradient, int64_t begin, int64_t end) {
  in_double ? focal::backward_chunk<double>(in, factor, factors, gradient, begin, end)
            : focal::backward_chunk<float>(in, factor, factors, gradient, begin, end);
}

}  // namespace ANSM_FAST_ISA
}  // namespace ansm_fast
