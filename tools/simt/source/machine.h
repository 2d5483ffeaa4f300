// The state of the running launch, for the harness's own files.
#pragma once

#include <simt/fiber.h>
#include <simt/machine.h>

#include <random>
#include <string>
#include <vector>

namespace simt {

constexpr int kLanes = 32, kMaxThreads = 1024;

enum class Status : uint8_t { kReady, kAtBarrier, kAtCollective, kExited };

struct Thread {
  Fiber fiber;
  uint3 index;
  Status status;
  // What it waits for, and what it gets.
  Place place;
  Collective kind;
  int source;
  unsigned mask;
  uint64_t value;
};

struct Warp {
  unsigned arrived, exited;
};

enum class Order { kLastFirst, kFirstFirst, kLockStep, kRandom };

struct Schedule {
  Order order = Order::kLastFirst;
  unsigned seed = 0;
  bool descending = false;
  uint64_t ends = 0;  // run only so many of the first and of the last blocks; 0: all
  std::string text = "lifo";
};

// The threads that can run, in the order that the schedule makes of them.
class Ready {
 public:
  void start(const Schedule& schedule);
  void clear();
  // Threads that become ready together, in ascending order: add each, then `added` once.
  void add(int thread) { threads_.push_back(thread); }
  void added();
  bool empty() const { return first_ == threads_.size(); }
  int take();

 private:
  Order order_ = Order::kLastFirst;
  std::mt19937 random_;
  std::vector<int> threads_;
  size_t first_ = 0, settled_ = 0;
};

struct Machine {
  Schedule schedule;
  Launch launch{};
  Fiber host;
  Stacks stacks;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Ready ready;
  int count = 0;     // threads of a block
  int current = -1;  // the running thread, -1 on the host
  int waiting = 0;   // threads at the block's barrier
  int exited = 0;
  bool switched_from_host = false;
  std::string error;

  void run_block();
  // Runs the next thread that can; returns when the caller can run again.
  void next(bool finished = false);
  // Ends the launch: the message becomes the exception that `run` throws. Never returns.
  [[noreturn]] void fail(const std::string& message);
  [[noreturn]] void report_stuck();
  void exit_thread();

  int lane() const { return current % kLanes; }
  Warp& warp() { return warps[size_t(current / kLanes)]; }
  Thread& thread() { return threads[size_t(current)]; }
};

extern Machine machine;

Schedule parse_schedule(const std::string& text);
std::string to_text(Place place);
std::string name_of(int thread);                  // "thread (3,0,0)"
std::string name_of_block();                      // "block (0,1,0)"
std::string name_of_block_at(uint64_t position);  // in the order in which blocks run
uint3 block_at(uint64_t position);

// Shared memory of the running block.
void shared_launch_begins();
void shared_block_begins();

}  // namespace simt
