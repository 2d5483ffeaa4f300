#include "traffic.h"

#include <algorithm>
#include <unordered_map>

#include "machine.h"

namespace simt {
namespace watch {
namespace {

struct WarpAccess {
  Buffer* buffer = nullptr;
  bool write = false;
  int lanes = 0;
  uintptr_t address[kLanes];
  uint8_t bytes[kLanes];
};

struct Site {
  std::vector<uint32_t> visits;            // of each thread, in this block
  std::vector<std::vector<int>> accesses;  // of each warp, by visit: where in the pool
};

std::unordered_map<uint64_t, Site> sites;
Site* last_site = nullptr;
uint64_t last_key = 0;
std::vector<WarpAccess> pool;
std::vector<int> free_places;

void settle(WarpAccess& access) {
  int order[kLanes];
  for (int i = 0; i < access.lanes; ++i) order[i] = i;
  const auto before = [&](int a, int b) { return access.address[a] < access.address[b]; };
  if (!std::is_sorted(order, order + access.lanes, before))
    std::sort(order, order + access.lanes, before);
  uint64_t sectors = 0, bytes = 0;
  uintptr_t next_sector = 0, next_byte = 0;
  for (int i = 0; i < access.lanes; ++i) {
    const uintptr_t begin = access.address[order[i]], end = begin + access.bytes[order[i]];
    if (end > next_byte) {
      bytes += end - std::max(begin, next_byte);
      next_byte = end;
    }
    const uintptr_t sector_end = (end - 1) / kSector + 1;
    if (sector_end > next_sector) {
      sectors += sector_end - std::max(begin / kSector, next_sector);
      next_sector = sector_end;
    }
  }
  Traffic& traffic = access.write ? access.buffer->written : access.buffer->read;
  ++traffic.accesses;
  traffic.access_sectors += sectors;
  traffic.ideal_sectors += (bytes + kSector - 1) / kSector;
  access.lanes = 0;
}

int take_place() {
  if (free_places.empty()) {
    pool.emplace_back();
    return int(pool.size()) - 1;
  }
  const int place = free_places.back();
  free_places.pop_back();
  return place;
}

constexpr int kSettled = -1;

}  // namespace

void traffic_launch_begins() {
  sites.clear();
  last_site = nullptr;
}

void traffic_block_begins(int threads) {
  for (auto& [code, site] : sites) {
    site.visits.assign(size_t(threads), 0);
    for (auto& accesses : site.accesses) accesses.clear();
  }
}

void traffic_block_ends() {
  for (auto& [code, site] : sites)
    for (auto& accesses : site.accesses) {
      for (const int place : accesses) {
        if (place == kSettled) continue;
        settle(pool[size_t(place)]);
        free_places.push_back(place);
      }
      accesses.clear();
    }
}

void count_access(Buffer& buffer, uintptr_t address, unsigned bytes, bool write, uint32_t code,
                  int thread) {
  const uint64_t key = uint64_t(code) << 1 | uint64_t(write);
  if (!last_site || key != last_key) {
    last_site = &sites[key];
    last_key = key;
    if (last_site->visits.size() < size_t(machine.count))
      last_site->visits.resize(size_t(machine.count));
    last_site->accesses.resize(size_t(kMaxThreads / kLanes));
  }
  const uint32_t visit = last_site->visits[size_t(thread)]++;
  std::vector<int>& accesses = last_site->accesses[size_t(thread / kLanes)];
  while (accesses.size() <= visit) accesses.push_back(take_place());
  WarpAccess& access = pool[size_t(accesses[visit])];
  if (access.lanes == 0) {
    access.buffer = &buffer;
    access.write = write;
  }
  access.address[access.lanes] = address;
  access.bytes[access.lanes] = uint8_t(bytes);
  if (++access.lanes < kLanes) return;
  settle(access);
  free_places.push_back(accesses[visit]);
  accesses[visit] = kSettled;
}

}  // namespace watch
}  // namespace simt
