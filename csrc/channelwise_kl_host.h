// The entry points of csrc/host/channelwise_kl.cpp, one set an instruction set.
#pragma once

#include "channelwise_kl/args.h"

#define ANSM_FAST_DECLARE(isa)                                                              \
  namespace ansm_fast {                                                                     \
  namespace isa {                                                                           \
  void channelwise_kl_rows(const ::ansm_fast::channelwise_kl::Inputs&, bool wide, int64_t begin, \
                           int64_t end, double* kl);                                        \
  void channelwise_kl_columns(const ::ansm_fast::channelwise_kl::Inputs&, bool wide,        \
                              int64_t begin, int64_t end, double* kl);                      \
  int64_t channelwise_kl_column_blocks(const ::ansm_fast::channelwise_kl::Inputs&);         \
  }                                                                                         \
  }
ANSM_FAST_DECLARE(baseline)
ANSM_FAST_DECLARE(avx2)
ANSM_FAST_DECLARE(avx512)
#undef ANSM_FAST_DECLARE
