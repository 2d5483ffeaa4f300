// The entry points of csrc/focal/host.cpp. `in_double` accumulates in float64, else in float32.
#pragma once

#include "common/host_entry.h"
#include "focal/args.h"

// clang-format off
ANSM_FAST_FOR_EACH_ISA(
  void focal_forward(const ::ansm_fast::focal::Inputs& in, bool in_double, int64_t begin,
                     int64_t end, const ::ansm_fast::Field& each,
                     ::ansm_fast::focal::Sums* sums);
  void focal_backward(const ::ansm_fast::focal::Inputs& in, bool in_double, double factor,
                      const ::ansm_fast::Field& factors, const ::ansm_fast::Field& gradient,
                      int64_t begin, int64_t end);
)
// clang-format on
