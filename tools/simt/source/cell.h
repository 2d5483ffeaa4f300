// Who touched a few bytes of memory last, and whether what another thread does to them now is
// ordered after it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include <sys/mman.h>

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

// The cells of some memory, all zero until touched: most of a large tensor never is.
class Cells {
 public:
  void start(size_t memory_bytes, size_t element) {
    bytes_ = element % 4 == 0 ? 4 : element % 2 == 0 ? 2 : 1;
    count_ = (memory_bytes + bytes_ - 1) / bytes_;
    cells_ = make(count_);
  }
  bool started() const { return cells_ != nullptr; }
  unsigned cell_bytes() const { return bytes_; }

  // The cells that an access touches: finer ones from the first access on that is smaller than a
  // cell, or neighbors in a word would seem to race.
  template <class Function>
  void visit(size_t offset, unsigned bytes, Function function) {
    if (offset % bytes_ != 0 || bytes % bytes_ != 0) refine();
    for (size_t c = offset / bytes_; c < (offset + bytes) / bytes_; ++c) function(cells_.get()[c]);
  }

 private:
  struct Free {
    size_t bytes;
    void operator()(Cell* cells) const { munmap(cells, bytes); }
  };
  using Owned = std::unique_ptr<Cell, Free>;

  // Zeros, promised but not reserved: many times as much as there is memory.
  static Owned make(size_t count) {
    const size_t bytes = count * sizeof(Cell);
    void* cells = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (cells == MAP_FAILED) throw std::bad_alloc();
    return Owned(static_cast<Cell*>(cells), Free{bytes});
  }

  void refine() {
    Owned fine = make(count_ * bytes_);
    for (size_t c = 0; c < count_ * bytes_; ++c) fine.get()[c] = cells_.get()[c / bytes_];
    cells_ = std::move(fine);
    count_ *= bytes_;
    bytes_ = 1;
  }

  Owned cells_;
  size_t count_ = 0;
  unsigned bytes_ = 1;
};

struct Conflict {
  bool found = false;
  Moment other;
  bool other_wrote = false;
  uint32_t other_code = 0;
  bool same_block = false;
  uint32_t other_position = 0;  // of its block in the order in which blocks ran
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
