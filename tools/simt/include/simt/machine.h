// What runs a launch: one fiber a thread, one block after another, switches only where threads
// wait for each other.
//
// In which order threads run is the schedule's choice (`set_schedule`, or ANSM_FAST_SIMT_SCHEDULE):
//   lifo        a warp runs ahead to its next __syncthreads, the last warp first (the default)
//   rev         the same, the first warp first
//   fifo        all threads advance in lock-step
//   random:7    any thread that can run; the number is the seed
// and, after a comma, `ascending` (the default) or `descending`: the order of blocks. A correct
// kernel gives the same result under all of them. `ends:4` runs only the first and the last four
// blocks of every launch, where tensors are too large for more: their results are of no use, but
// the addresses of the last blocks are.
//
// What is wrong with a kernel ends the launch with simt::Error.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>

namespace simt {

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_size = 1, unsigned y_size = 1, unsigned z_size = 1)
      : x(x_size), y(y_size), z(z_size) {}
};

}  // namespace simt

// The scheduler sets threadIdx at every switch of fibers.
extern simt::uint3 threadIdx, blockIdx;
extern simt::dim3 blockDim, gridDim;

namespace simt {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Place {
  const char* file;
  int line;
};

void set_schedule(const std::string& schedule);

// A number that no device takes as the size of a grid would be cut off silently in a dim3.
template <class Size>
inline dim3 checked_size(Size size) {
  if constexpr (std::is_integral_v<Size>) {
    if (size < 1 || uint64_t(size) > 2147483647u)
      throw Error("simt: a grid or block of " + std::to_string(size));
    return dim3(unsigned(size));
  } else {
    return size;
  }
}

struct Launch {
  const char* name;
  const void* kernel;
  dim3 grid, block;
  // Readable by the kernel, as the device's parameter memory is.
  const void* arguments;
  size_t argument_bytes;
  void (*entry)(const void* arguments);
};

void run(const Launch& launch);

template <class... P>
struct Call {
  void (*kernel)(P...);
  std::tuple<P...> arguments;

  static void enter(const void* call) {
    const Call& self = *static_cast<const Call*>(call);
    std::apply(self.kernel, self.arguments);
  }
};

template <class... P, class Grid, class Block, class... A>
inline void launch(const char* name, void (*kernel)(P...), Grid grid, Block block, void*,
                   A&&... arguments) {
  static_assert((std::is_trivially_copyable_v<P> && ...), "kernel arguments are copied as bytes");
  static_assert((sizeof(P) + ... + 0) < 4096, "kernel arguments have 4 KiB");
  const Call<P...> call{kernel, std::tuple<P...>(static_cast<P>(arguments)...)};
  run({name, reinterpret_cast<const void*>(kernel), checked_size(grid), checked_size(block), &call,
       sizeof(call), &Call<P...>::enter});
}

// What threads call.
enum class Collective : uint8_t { kSync, kShuffle, kBallot, kAny, kAll };

void block_barrier(Place place);

// Waits for the lanes of `mask`. A shuffle returns the bits that lane `source` brought (all ones
// where that lane is not in the mask, whose value would be undefined), votes the lanes whose value
// is not zero.
uint64_t collective(Collective kind, unsigned mask, uint64_t value, int source, Place place);

int this_lane();
void fence();
unsigned atomic_add(void* target, unsigned value);

struct SharedSite {
  const char* name;
  const char* file;
  int line;
  size_t element, count, alignment;
};

void* shared(const SharedSite& site);

// Memory that kernels may touch, `element` bytes an element, until `forget`; only the build that
// sees accesses looks at it.
void announce(const void* begin, size_t bytes, size_t element = 4);
void forget();

// While it lives, an op runs: what it announces is forgotten at its end, and what was announced
// before is not its own. Ops of other threads wait.
class Operation {
 public:
  Operation();
  ~Operation();
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
};

}  // namespace simt
