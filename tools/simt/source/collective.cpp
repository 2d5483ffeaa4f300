// Warp intrinsics: the lanes of a mask wait for each other, and the last one hands out the results.
#include "machine.h"
#include "watch.h"

namespace simt {
namespace {

uint64_t vote(Collective kind, unsigned mask, const Thread* warp) {
  unsigned ballot = 0;
  for (int l = 0; l < kLanes; ++l)
    if ((mask >> l & 1) && warp[l].value) ballot |= 1u << l;
  // `any` and `all` compare the ballot with nothing and everything.
  return kind == Collective::kAll ? (ballot == mask ? mask : 0) : ballot;
}

void hand_out(Collective kind, unsigned mask, Thread* warp) {
  uint64_t brought[kLanes];
  for (int l = 0; l < kLanes; ++l) brought[l] = warp[l].value;
  const uint64_t ballot = vote(kind, mask, warp);
  for (int l = 0; l < kLanes; ++l) {
    if (!(mask >> l & 1)) continue;
    if (kind != Collective::kShuffle)
      warp[l].value = ballot;
    else
      warp[l].value = mask >> warp[l].source & 1 ? brought[warp[l].source] : ~uint64_t(0);
  }
}

}  // namespace

uint64_t collective(Collective kind, unsigned mask, uint64_t value, int source, Place place) {
  Machine& m = machine;
  Thread& me = m.thread();
  Warp& warp = m.warp();
  const int first = m.current - m.lane();
  const unsigned bit = 1u << m.lane();
  const auto where = [&] {
    return " in " + name_of_block() + ": " + name_of(m.current) + " at a warp intrinsic, " +
           to_text(place) + ", ";
  };
  if (!(mask & bit)) m.fail("wrong mask" + where() + "is not in its own mask");
  if (warp.exited & mask)
    m.fail("exited lane" + where() + "waits for lane " +
           std::to_string(__builtin_ctz(warp.exited & mask)) + ", which has exited");
  me.kind = kind;
  me.mask = mask;
  me.value = value;
  me.source = source & (kLanes - 1);
  me.place = place;
  me.status = Status::kAtCollective;
  warp.arrived |= bit;
  Thread* lanes = &m.threads[size_t(first)];
  bool complete = true;
  for (int l = 0; l < kLanes; ++l) {
    if (!(mask >> l & 1)) continue;
    const Thread& other = lanes[l];
    const bool here = (warp.arrived >> l & 1) && other.mask == mask;
    complete &= here;
    if (!(warp.arrived >> l & 1) || (here && other.kind == kind)) continue;
    if (here)
      m.fail("different intrinsics" + where() + name_of(first + l) + " at another, " +
             to_text(other.place));
    // Each waits for the other, with masks that will never be the same.
    if (other.mask & bit)
      m.fail("disagreeing masks" + where() + name_of(first + l) + " has another mask at " +
             to_text(other.place));
  }
  if (complete) {
    hand_out(kind, mask, lanes);
    if (kind == Collective::kSync) watch::warp_synced(first / kLanes, mask);
    warp.arrived &= ~mask;
    for (int l = 0; l < kLanes; ++l) {
      if (!(mask >> l & 1)) continue;
      lanes[l].status = Status::kReady;
      m.ready.add(first + l);
    }
    m.ready.added();
  }
  m.next();
  return me.value;
}

int this_lane() { return machine.lane(); }

void fence() { watch::fence(); }

// Threads and blocks never run at once, so that a plain addition is atomic.
unsigned atomic_add(void* target, unsigned value) {
  watch::atomic(target, sizeof(unsigned), __builtin_return_address(0));
  unsigned* const number = static_cast<unsigned*>(target);
  const unsigned before = *number;
  *number = before + value;
  return before;
}

}  // namespace simt
