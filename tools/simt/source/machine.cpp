#include "machine.h"

#include <cstdlib>
#include <mutex>

#include "watch.h"

simt::uint3 threadIdx, blockIdx;
simt::dim3 blockDim, gridDim;

namespace simt {

Machine machine;

namespace {

std::mutex one_launch;

Schedule& chosen_schedule() {
  static Schedule schedule = [] {
    const char* text = std::getenv("ANSM_FAST_SIMT_SCHEDULE");
    return text && *text ? parse_schedule(text) : Schedule();
  }();
  return schedule;
}

std::string to_text(uint3 index) {
  return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," +
         std::to_string(index.z) + ")";
}

void run_thread() {
  arrive(machine.host, machine.switched_from_host);
  machine.switched_from_host = false;
  machine.launch.entry(machine.launch.arguments);
  machine.exit_thread();
}

void check(const Launch& launch) {
  const dim3 block = launch.block, grid = launch.grid;
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  if (threads < 1 || threads > uint64_t(kMaxThreads) || block.z > 64)
    throw Error(std::string("simt: ") + launch.name + ": a block of " +
                to_text({block.x, block.y, block.z}) + " threads");
  if (!grid.x || !grid.y || !grid.z || grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535)
    throw Error(std::string("simt: ") + launch.name + ": a grid of " +
                to_text({grid.x, grid.y, grid.z}) + " blocks");
}

}  // namespace

std::string to_text(Place place) {
  const std::string file = place.file;
  const size_t slash = file.rfind('/', file.rfind('/') - 1);
  return (slash == std::string::npos ? file : file.substr(slash + 1)) + ":" +
         std::to_string(place.line);
}

std::string name_of(int thread) {
  return "thread " + to_text(machine.threads[size_t(thread)].index);
}

uint3 block_at(uint64_t position) {
  const dim3 grid = machine.launch.grid;
  const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
  const uint64_t block = machine.schedule.descending ? blocks - 1 - position : position;
  return {unsigned(block % grid.x), unsigned(block / grid.x % grid.y),
          unsigned(block / grid.x / grid.y)};
}

std::string name_of_block_at(uint64_t position) { return "block " + to_text(block_at(position)); }

std::string name_of_block() { return "block " + to_text(blockIdx); }

void set_schedule(const std::string& schedule) {
  chosen_schedule() = schedule.empty() ? Schedule() : parse_schedule(schedule);
}

void run(const Launch& launch) {
  check(launch);
  std::lock_guard<std::mutex> lock(one_launch);
  Machine& m = machine;
  m.launch = launch;
  m.schedule = chosen_schedule();
  m.ready.start(m.schedule);
  m.count = int(launch.block.x * launch.block.y * launch.block.z);
  m.error.clear();
  m.threads.resize(kMaxThreads);
  m.warps.resize(size_t(m.count + kLanes - 1) / kLanes);
  gridDim = launch.grid;
  blockDim = launch.block;
  shared_launch_begins();
  watch::launch_begins();
  const uint64_t blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
  const uint64_t ends = m.schedule.ends;
  for (uint64_t i = 0; i < blocks && m.error.empty(); ++i) {
    if (ends > 0 && i == ends && blocks > 2 * ends) i = blocks - ends;
    blockIdx = block_at(i);
    m.run_block();
  }
  const std::string error = watch::launch_ends(m.error);
  if (!error.empty()) throw Error("simt: " + std::string(launch.name) + ": " + error);
}

void Machine::run_block() {
  shared_block_begins();
  watch::block_begins();
  ready.clear();
  waiting = exited = 0;
  for (size_t w = 0; w < warps.size(); ++w) warps[w] = {0, 0};
  if (count % kLanes) warps.back().exited = ~0u << (count % kLanes);
  for (int i = 0; i < count; ++i) {
    Thread& t = threads[size_t(i)];
    t.status = Status::kReady;
    t.index = {unsigned(i) % launch.block.x, unsigned(i) / launch.block.x % launch.block.y,
               unsigned(i) / launch.block.x / launch.block.y};
    prepare(t.fiber, stacks.get(i), i, run_thread);
    ready.add(i);
  }
  ready.added();
  current = ready.take();
  threadIdx = thread().index;
  switched_from_host = true;
  switch_fibers(host, thread().fiber, false);
  if (!error.empty())
    for (int i = 0; i < count; ++i) forget_frames(threads[size_t(i)].fiber, Stacks::kBytes);
  watch::block_ends();
}

void Machine::next(bool finished) {
  const int from = current;
  if (ready.empty()) {
    if (exited < count) report_stuck();
    current = -1;
    switch_fibers(threads[size_t(from)].fiber, host, finished);
    return;
  }
  current = ready.take();
  threadIdx = thread().index;
  if (current != from) switch_fibers(threads[size_t(from)].fiber, thread().fiber, finished);
}

void Machine::fail(const std::string& message) {
  Fiber& from = thread().fiber;
  error = message;
  current = -1;
  switch_fibers(from, host, false);
  __builtin_unreachable();
}

void Machine::exit_thread() {
  Warp& own = warp();
  const unsigned bit = 1u << lane();
  const int first = current - lane();
  if (waiting > 0)
    for (int i = 0; i < count; ++i)
      if (threads[size_t(i)].status == Status::kAtBarrier)
        fail("barrier divergence in " + name_of_block() + ": " + name_of(current) +
             " has exited, " + name_of(i) + " waits at __syncthreads, " +
             simt::to_text(threads[size_t(i)].place));
  for (int l = 0; l < kLanes; ++l)
    if ((own.arrived >> l & 1) && (threads[size_t(first + l)].mask & bit))
      fail("exited lane in " + name_of_block() + ": " + name_of(first + l) +
           " waits at a warp intrinsic, " + simt::to_text(threads[size_t(first + l)].place) +
           ", for " + name_of(current) + ", which has exited");
  thread().status = Status::kExited;
  own.exited |= bit;
  ++exited;
  next(true);
  __builtin_unreachable();
}

void Machine::report_stuck() {
  std::string text = "threads of " + name_of_block() + " wait for each other:";
  int shown = 0;
  for (int i = 0; i < count && shown < 4; ++i) {
    const Thread& t = threads[size_t(i)];
    if (t.status != Status::kAtBarrier && t.status != Status::kAtCollective) continue;
    // One of each place is enough.
    bool new_place = true;
    for (int j = 0; j < i; ++j)
      new_place &=
          threads[size_t(j)].status != t.status || threads[size_t(j)].place.line != t.place.line;
    if (!new_place) continue;
    text += (shown++ ? ", " : " ") + name_of(i) +
            (t.status == Status::kAtBarrier ? " at __syncthreads, " : " at a warp intrinsic, ") +
            simt::to_text(t.place);
  }
  fail("barrier divergence: " + text);
}

void block_barrier(Place place) {
  Machine& m = machine;
  Thread& t = m.thread();
  t.place = place;
  if (m.exited > 0)
    m.fail("barrier divergence in " + name_of_block() + ": " + name_of(m.current) +
           " waits at __syncthreads, " + to_text(place) + ", and " + std::to_string(m.exited) +
           " threads have exited");
  t.status = Status::kAtBarrier;
  if (++m.waiting == m.count) {
    m.waiting = 0;
    for (int i = 0; i < m.count; ++i) {
      Thread& other = m.threads[size_t(i)];
      if (other.place.line != place.line || other.place.file != place.file)
        m.fail("barrier divergence in " + name_of_block() + ": " + name_of(m.current) +
               " waits at the __syncthreads of " + to_text(place) + ", " + name_of(i) +
               " at that of " + to_text(other.place));
      other.status = Status::kReady;
      m.ready.add(i);
    }
    m.ready.added();
    watch::block_synced();
  }
  m.next();
}

}  // namespace simt
