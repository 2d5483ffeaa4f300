// Memory that kernels may touch, and what they did to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cell.h"

namespace simt {
namespace watch {

constexpr unsigned kSector = 32;

// Traffic in one direction.
struct Traffic {
  uint64_t bytes = 0;           // that threads asked for
  uint64_t sectors = 0;         // distinct ones
  uint64_t accesses = 0;        // of whole warps
  uint64_t access_sectors = 0;  // summed over those
  uint64_t ideal_sectors = 0;   // as many as their bytes fill
  uint64_t unaligned = 0;       // accesses that the compiler cannot take for one instruction

  void add(const Traffic& other);
};

struct Buffer {
  uintptr_t begin, end;
  size_t element;
  Cells cells;
  std::vector<bool> read_sectors, written_sectors;
  Traffic read, written;
  uint64_t bytes_written = 0;  // distinct ones

  bool contains(uintptr_t address, size_t bytes) const {
    return address >= begin && address + bytes <= end;
  }
  void launch_begins();
  void mark(uintptr_t address, unsigned bytes, bool write);
};

std::vector<Buffer>& buffers();
Buffer* buffer_of(uintptr_t address, size_t bytes);
// The buffer that begins last before the address, or null.
const Buffer* nearest_buffer(uintptr_t address);

}  // namespace watch
}  // namespace simt
