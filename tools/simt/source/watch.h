// What the build that sees accesses does with them: bounds, races, uninitialized words, traffic.
// In the other builds `watching` stays false, and launches are only listed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace simt {
namespace watch {

enum class Kind : uint8_t { kRead, kWrite, kAtomic };

extern bool watching;

void launch_begins();
// What the launch fails with: `error`, or else what was found, or nothing.
std::string launch_ends(const std::string& error);
void block_begins();
void block_ends();
void block_synced();
void warp_synced(int warp, unsigned mask);
void fence();
void atomic(void* address, size_t bytes, void* code);

// One access of the running thread; `aligned` where the compiler took it for one instruction.
void access(uintptr_t address, unsigned bytes, Kind kind, bool aligned, void* code);

}  // namespace watch
}  // namespace simt
