#include "buffers.h"

#include <simt/machine.h>

#include <algorithm>
#include <mutex>

namespace simt {
namespace watch {

void Traffic::add(const Traffic& other) {
  bytes += other.bytes;
  sectors += other.sectors;
  accesses += other.accesses;
  access_sectors += other.access_sectors;
  ideal_sectors += other.ideal_sectors;
  unaligned += other.unaligned;
}

void Buffer::launch_begins() {
  if (!cells.started()) cells.start(end - begin, element);
  const size_t sectors = (end - 1) / kSector - begin / kSector + 1;
  read_sectors.assign(sectors, false);
  written_sectors.assign(sectors, false);
  read = written = {};
  bytes_written = 0;
}

void Buffer::mark(uintptr_t address, unsigned bytes, bool write) {
  std::vector<bool>& sectors = write ? written_sectors : read_sectors;
  Traffic& traffic = write ? written : read;
  traffic.bytes += bytes;
  const size_t first = begin / kSector;
  for (size_t s = address / kSector; s <= (address + bytes - 1) / kSector; ++s) {
    if (sectors[s - first]) continue;
    sectors[s - first] = true;
    ++traffic.sectors;
  }
}

std::vector<Buffer>& buffers() {
  static std::vector<Buffer> all;
  return all;
}

Buffer* buffer_of(uintptr_t address, size_t bytes) {
  static size_t last = 0;
  std::vector<Buffer>& all = buffers();
  if (last < all.size() && all[last].contains(address, bytes)) return &all[last];
  for (size_t i = 0; i < all.size(); ++i) {
    if (!all[i].contains(address, bytes)) continue;
    last = i;
    return &all[i];
  }
  return nullptr;
}

const Buffer* nearest_buffer(uintptr_t address) {
  const Buffer* nearest = nullptr;
  for (const Buffer& buffer : buffers())
    if (buffer.begin <= address && (!nearest || buffer.begin > nearest->begin)) nearest = &buffer;
  return nearest;
}

}  // namespace watch

void announce(const void* begin, size_t bytes, size_t element) {
  if (bytes == 0) return;
  watch::Buffer added{};
  added.begin = uintptr_t(begin);
  added.end = added.begin + bytes;
  added.element = element;
  std::vector<watch::Buffer>& all = watch::buffers();
  for (size_t i = 0; i < all.size();) {
    if (all[i].end <= added.begin || all[i].begin >= added.end) {
      ++i;
      continue;
    }
    if (all[i].begin == added.begin && all[i].end == added.end) {
      all[i].element = std::min(all[i].element, element);
      return;
    }
    // Views of one tensor: races are races of the same words.
    added.begin = std::min(added.begin, all[i].begin);
    added.end = std::max(added.end, all[i].end);
    added.element = std::min(added.element, all[i].element);
    all.erase(all.begin() + ptrdiff_t(i));
    i = 0;
  }
  all.push_back(std::move(added));
}

void forget() { watch::buffers().clear(); }

namespace {

std::recursive_mutex one_operation;
int operations = 0;

}  // namespace

Operation::Operation() {
  one_operation.lock();
  if (operations++ == 0) forget();
}

Operation::~Operation() {
  if (--operations == 0) forget();
  one_operation.unlock();
}

}  // namespace simt
