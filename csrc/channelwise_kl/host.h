// The entry points of csrc/channelwise_kl/host.cpp. `in_double` accumulates in double.
#pragma once

#include "channelwise_kl/args.h"
#include "common/host_entry.h"

// clang-format off
ANSM_FAST_FOR_EACH_ISA(
  void channelwise_kl_rows(const ::ansm_fast::channelwise_kl::Inputs& in, bool in_double,
                           int64_t begin, int64_t end, double* kl);
  void channelwise_kl_columns(const ::ansm_fast::channelwise_kl::Inputs& in, bool in_double,
                              int64_t begin, int64_t end, double* kl);
  int64_t channelwise_kl_column_blocks(const ::ansm_fast::channelwise_kl::Inputs& in);
  void channelwise_kl_scale_rows(const ::ansm_fast::channelwise_kl::Scaling& io, bool in_double,
                                 int64_t begin, int64_t end);
  void channelwise_kl_scale_columns(const ::ansm_fast::channelwise_kl::Scaling& io, bool in_double,
                                    int64_t begin, int64_t end);
)
// clang-format on
