// The entry points of csrc/dual_mask/host.cpp. `in_double` accumulates in double.
#pragma once

#include "common/host_entry.h"
#include "dual_mask/args.h"

// clang-format off
ANSM_FAST_FOR_EACH_ISA(
  void dual_mask_forward(const ::ansm_fast::dual_mask::Inputs& in, bool in_double, int64_t begin,
                         int64_t end, ::ansm_fast::dual_mask::Sums* sums);
  void dual_mask_backward(const ::ansm_fast::dual_mask::Inputs& in, bool in_double,
                          const ::ansm_fast::dual_mask::Coefficients* coefficients,
                          const ::ansm_fast::Field* gradient, int64_t begin, int64_t end);
)
// clang-format on
