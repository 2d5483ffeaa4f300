// Shared memory: each array where its site is first met in a launch, with room around it that
// belongs to nobody; all ones (NaN) at the start of every block.
#include "shared.h"

#include <cstring>

#include "machine.h"
#include "watch.h"

namespace simt {
namespace {

constexpr size_t kStatic = 48 * 1024, kGap = 64, kArena = 4 * kStatic;
alignas(128) char arena[kArena];
std::vector<SharedArray> arrays;
size_t used = 0, taken = 0;

void poison(char* begin, size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(begin, bytes);
#else
  (void)begin;
  (void)bytes;
#endif
}

void unpoison(char* begin, size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(begin, bytes);
#else
  (void)begin;
  (void)bytes;
#endif
}

// No better aligned than its type asks for, where something checks it.
char* place(const SharedSite& site) {
  size_t offset = (used + kGap + 63) / 64 * 64;
#if defined(__SANITIZE_ADDRESS__)
  const bool exact = true;
#else
  const bool exact = watch::watching;
#endif
  if (exact && site.alignment < 16) offset += site.alignment;
  return arena + offset;
}

}  // namespace

bool in_shared(uintptr_t address) { return address - uintptr_t(arena) < kArena; }

SharedArray* shared_array_at(uintptr_t address) {
  for (SharedArray& array : arrays)
    if (address - uintptr_t(array.begin) < array.bytes) return &array;
  return nullptr;
}

const SharedArray* nearest_shared_array(uintptr_t address) {
  const SharedArray* nearest = nullptr;
  for (const SharedArray& array : arrays)
    if (!nearest || uintptr_t(array.begin) <= address) nearest = &array;
  return nearest;
}

void shared_launch_begins() {
  arrays.clear();
  used = taken = 0;
  poison(arena, kArena);
}

void shared_block_begins() {
  for (const SharedArray& array : arrays) memset(array.begin, 0xff, array.bytes);
}

void* shared(const SharedSite& site) {
  for (const SharedArray& array : arrays)
    if (array.site == &site) return array.begin;
  const size_t bytes = site.element * site.count;
  taken += (bytes + site.alignment - 1) / site.alignment * site.alignment;
  if (taken > kStatic)
    machine.fail("more than 48 KiB of shared memory with " + std::string(site.name) + ", " +
                 to_text({site.file, site.line}));
  char* const begin = place(site);
  used = size_t(begin - arena) + bytes;
  unpoison(begin, bytes);
  memset(begin, 0xff, bytes);
  arrays.push_back({&site, begin, bytes, {}});
  return begin;
}

}  // namespace simt
