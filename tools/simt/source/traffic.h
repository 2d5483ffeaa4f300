// Accesses of a warp's lanes by one instruction, put together again although the lanes run one
// after another: the nth access of each lane at the same place in the code.
#pragma once

#include <cstdint>

#include "buffers.h"

namespace simt {
namespace watch {

void traffic_launch_begins();
void traffic_block_begins(int threads);
void traffic_block_ends();
void count_access(Buffer& buffer, uintptr_t address, unsigned bytes, bool write, uint32_t code,
                  int thread);

}  // namespace watch
}  // namespace simt
