// The entry points of csrc/image_pack/host.cpp. `in_double` computes in double.
#pragma once

#include "common/host_entry.h"
#include "image_pack/args.h"

// clang-format off
ANSM_FAST_FOR_EACH_ISA(
  void image_pack_table(::ansm_fast::ElementType type, void* table);
  void image_pack_run(const ::ansm_fast::image_pack::Pack& io, int64_t begin, int64_t end);
  void image_unpack_run(const ::ansm_fast::image_pack::Unpack& io, bool in_double, int64_t begin,
                        int64_t end);
)
// clang-format on
