// What is ordered before what. Within a block: __syncthreads orders everything, __syncwarp the
// lanes of its mask; shuffles and votes order nothing, as CUDA's documentation says. Between blocks
// of one launch only this does: write, __threadfence, atomic; then, in the other block, an atomic
// on the same word that came later, __threadfence, read.
#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cell.h"
#include "machine.h"

namespace simt {
namespace watch {
namespace {

uint32_t first_block = 1, block = 0, interval = 0;
uint32_t epochs[kMaxThreads];
// The epoch of a lane up to which another lane of its warp has seen its accesses.
uint32_t seen[kMaxThreads / kLanes][kLanes][kLanes];

struct Location {
  std::vector<Moment> releases;
};
// What a thread has learned from the first `count` releases of a location.
struct View {
  int thread;  // -1 is the whole block
  const Location* location;
  size_t count;
};

std::unordered_map<uintptr_t, Location> locations;
std::unordered_map<int, Moment> fences;
std::vector<View> observed, acquired;

bool released(const Moment& earlier, int thread) {
  for (const View& view : acquired) {
    if (view.thread != thread && view.thread != -1) continue;
    for (size_t i = 0; i < view.count; ++i) {
      const Moment& release = view.location->releases[i];
      if (release.block != earlier.block) continue;
      if (earlier.interval < release.interval) return true;
      if (earlier.thread == release.thread && earlier.epoch <= release.epoch) return true;
    }
  }
  return false;
}

bool ordered(const Moment& earlier, int thread) {
  if (earlier.block != block) return released(earlier, thread);
  if (earlier.thread == thread || earlier.interval < interval) return true;
  if (earlier.thread / kLanes != thread / kLanes) return false;
  return seen[thread / kLanes][thread % kLanes][earlier.thread % kLanes] >= earlier.epoch;
}

bool reads_ordered(const Cell& cell, int thread) {
  if (cell.read.block < first_block) return true;
  if (cell.other_block >= first_block && cell.other_block != block &&
      !released({cell.other_block, 0, 0, cell.read.thread}, thread))
    return false;
  if (cell.read.block != block) return released(cell.read, thread);
  if (cell.read.interval < interval) return true;
  if (cell.many_warps || cell.read.thread / kLanes != thread / kLanes) return false;
  const uint32_t* own = seen[thread / kLanes][thread % kLanes];
  for (int lane = 0; lane < kLanes; ++lane)
    if ((cell.lanes >> lane & 1) && lane != thread % kLanes && own[lane] < cell.read.epoch)
      return false;
  return true;
}

void note_read(Cell& cell, const Moment& now, uint32_t code) {
  const uint32_t bit = 1u << (now.thread % kLanes);
  const bool together = cell.read.block == block && cell.read.interval == interval;
  if (cell.read.block != block && cell.read.block >= first_block)
    cell.other_block = cell.read.block;
  if (!together) {
    cell.many_warps = false;
    cell.lanes = 0;
  } else if (cell.read.thread / kLanes != now.thread / kLanes) {
    cell.many_warps = true;
  }
  const uint32_t epoch = together ? std::max(cell.read.epoch, now.epoch) : now.epoch;
  cell.lanes |= bit;
  cell.read = now;
  cell.read.epoch = epoch;
  cell.read_code = code;
}

Conflict conflict_with(const Moment& other, bool wrote, uint32_t code) {
  return {true, other, wrote, code, other.block == block, other.block - first_block};
}

}  // namespace

Conflict touch(Cell& cell, Kind kind, uint32_t code) {
  const int thread = machine.current;
  const Moment now{block, interval, epochs[thread], uint16_t(thread)};
  Conflict conflict;
  const bool both_atomic = kind == Kind::kAtomic && cell.atomic;
  if (written_in_launch(cell) && !both_atomic && !ordered(cell.write, thread))
    conflict = conflict_with(cell.write, true, cell.write_code);
  if (kind == Kind::kRead) {
    note_read(cell, now, code);
    return conflict;
  }
  if (!conflict.found && !reads_ordered(cell, thread))
    conflict = conflict_with(cell.read, false, cell.read_code);
  cell = {};
  cell.write = now;
  cell.atomic = kind == Kind::kAtomic;
  cell.write_code = code;
  return conflict;
}

bool written_in_launch(const Cell& cell) { return cell.write.block >= first_block; }
bool written_in_block(const Cell& cell) { return cell.write.block == block; }
void forget_other_blocks(Cell& cell) {
  if (cell.write.block != block && cell.read.block != block) cell = {};
}

namespace order {

void launch_begins() {
  first_block = block + 1;
  locations.clear();
}

void block_begins(int threads) {
  ++block;
  interval = 1;
  std::fill(epochs, epochs + threads, 1);
  const int warps = (threads + kLanes - 1) / kLanes;
  std::fill(&seen[0][0][0], &seen[0][0][0] + warps * kLanes * kLanes, 0);
  fences.clear();
  observed.clear();
  acquired.clear();
}

void block_synced() {
  ++interval;
  for (View& view : acquired) view.thread = -1;
}

void warp_synced(int warp, unsigned mask) {
  uint32_t joined[kLanes] = {};
  uint32_t last = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    if (!(mask >> lane & 1)) continue;
    last = std::max(last, epochs[warp * kLanes + lane]);
    for (int l = 0; l < kLanes; ++l) joined[l] = std::max(joined[l], seen[warp][lane][l]);
  }
  for (int lane = 0; lane < kLanes; ++lane)
    if (mask >> lane & 1) joined[lane] = last;
  for (int lane = 0; lane < kLanes; ++lane) {
    if (!(mask >> lane & 1)) continue;
    std::copy(joined, joined + kLanes, seen[warp][lane]);
    epochs[warp * kLanes + lane] = last + 1;
  }
}

void fence(int thread) {
  fences[thread] = {block, interval, epochs[thread], uint16_t(thread)};
  // What the thread does from now on is not part of what it releases with this fence.
  ++epochs[thread];
  for (const View& view : observed)
    if (view.thread == thread) acquired.push_back(view);
}

void atomic(int thread, uintptr_t address) {
  Location& location = locations[address];
  observed.push_back({thread, &location, location.releases.size()});
  const auto fence = fences.find(thread);
  if (fence != fences.end()) location.releases.push_back(fence->second);
}

}  // namespace order

}  // namespace watch
}  // namespace simt
