// Who touched a few bytes of memory last, and whether what another thread does to them now is
// ordered after it.
#pragma once

#include <cstdint>

#include "watch.h"

namespace simt {
namespace watch {

// A place in the order of a launch: blocks have numbers that never repeat, intervals lie between
// the barriers of a block, epochs between the synchronizations of a lane's warp.
struct Moment {
  uint32_t block = 0, interval = 0, epoch = 0;
  uint16_t thread = 0;
};

struct Cell {
  Moment write;
  bool atomic = false;
  uint32_t write_code = 0;  // where in the library

  // Reads since the last write: those of the newest interval, and one block of the earlier ones.
  Moment read;
  bool many_warps = false;
  uint32_t lanes = 0;
  uint32_t read_code = 0, other_block = 0;
};

struct Conflict {
  bool found = false;
  Moment other;
  bool other_wrote = false;
  uint32_t other_code = 0;
};

// The running thread touches the cell now.
Conflict touch(Cell& cell, Kind kind, uint32_t code);
// Whether the running launch, or block, has written the cell.
bool written_in_launch(const Cell& cell);
bool written_in_block(const Cell& cell);
// Shared memory is new in every block.
void forget_other_blocks(Cell& cell);

namespace order {

void launch_begins();
void block_begins(int threads);
void block_synced();
void warp_synced(int warp, unsigned mask);
void fence(int thread);
void atomic(int thread, uintptr_t address);

}  // namespace order

}  // namespace watch
}  // namespace simt
