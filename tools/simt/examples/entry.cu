// The examples by name, for Python.
#include <functional>
#include <map>
#include <string>

#include "kernels.cuh"

namespace {

using namespace examples;

struct Memory {
  const float* in;
  float* out;
  int64_t n;
  float* room;  // as large as `out`
  unsigned grid() const { return unsigned((n + kThreads - 1) / kThreads); }
};

template <class Kernel, class... A>
void start(const char* name, Kernel kernel, const Memory& memory, A... arguments) {
  simt::launch(name, kernel, memory.grid(), kThreads, nullptr, arguments...);
}
#define START(kernel, ...) start(#kernel, kernel, m __VA_OPT__(, ) __VA_ARGS__)
#define EXAMPLE(name, ...) {name, [](const Memory& m) { __VA_ARGS__; }}

const std::map<std::string, std::function<void(const Memory&)>>& all() {
  static const std::map<std::string, std::function<void(const Memory&)>> examples {
    EXAMPLE("copy", START(copy<1>, m.in, m.out, m.n)),
        EXAMPLE("copy in vectors", START(copy<4>, m.in, m.out, m.n)),
        EXAMPLE("strided", START(strided, m.in, m.out, m.n / 4, 4)),
        EXAMPLE("load beyond", START(at_offset, m.in, m.out, m.n, 1, 0)),
        EXAMPLE("store beyond", START(at_offset, m.in, m.out, m.n, 0, 1)),
        EXAMPLE("load before", START(at_offset, m.in, m.out, m.n, -1, 0)),
        EXAMPLE("unknown memory", START(copy<1>, m.room, m.out, m.n)),
        EXAMPLE("misaligned", START(misaligned, m.in, m.out)),
        EXAMPLE("reverse", START(reverse<true>, m.in, m.out)),
        EXAMPLE("reverse without barrier", START(reverse<false>, m.in, m.out)),
        EXAMPLE("rotate", START(rotate<true>, m.in, m.out, 3)),
        EXAMPLE("rotate without barrier", START(rotate<false>, m.in, m.out, 3)),
        EXAMPLE("swap in warp", START(swap_in_warp<true>, m.in, m.out)),
        EXAMPLE("swap in warp without order", START(swap_in_warp<false>, m.in, m.out)),
        EXAMPLE("sums", START(sums, m.in, m.out)),
        EXAMPLE("one word of all blocks", START(one_word, m.in, m.out, 0u)),
        EXAMPLE("one word of two warps", START(one_word, m.in, m.out, 32u)),
        EXAMPLE("one word of two lanes", START(one_word, m.in, m.out, 1u)),
        EXAMPLE("shift in place", START(shift_in_place, m.out, m.n)),
        EXAMPLE(
            "last block", simt::announce(m.room, size_t(m.n) * 4);
            START(last_block<true>, m.in, m.out, reinterpret_cast<unsigned*>(m.room), m.room + 1)),
        EXAMPLE(
            "last block without fence", simt::announce(m.room, size_t(m.n) * 4);
            START(last_block<false>, m.in, m.out, reinterpret_cast<unsigned*>(m.room), m.room + 1)),
        EXAMPLE("shared load beyond", START(shared_offset, m.in, m.out, 1, 0)),
        EXAMPLE("shared store beyond", START(shared_offset, m.in, m.out, 0, 1)),
        EXAMPLE("shared store before", START(shared_offset, m.in, m.out, 0, -1)),
        EXAMPLE("half initialized", START(half_initialized, m.in, m.out)),
        EXAMPLE("bytes", START(bytes, reinterpret_cast<const uint8_t*>(m.in),
                               reinterpret_cast<uint8_t*>(m.out))),
        EXAMPLE("too much shared memory", START(too_much_shared, m.out)),
        EXAMPLE("early exit", START(early_exit, m.out)),
        EXAMPLE("two barriers", START(two_barriers, m.out)),
        EXAMPLE("exited lane", START(exited_lane, m.in, m.out)),
        EXAMPLE("disagreeing masks", START(disagreeing_masks, m.in, m.out)),
        EXAMPLE("other intrinsics", START(other_intrinsics, m.out)),
        EXAMPLE("intrinsics", simt::announce(m.out, size_t(m.n) * 40);
                START(intrinsics, m.in, m.out, m.n)),
        EXAMPLE("halves", simt::announce(m.room, size_t(m.n) * 4, 2);
                START(halves, m.in, m.out, reinterpret_cast<Half*>(m.room))),
        EXAMPLE("empty grid", ANSM_FAST_LAUNCH((copy<1>), 0, kThreads, nullptr, m.in, m.out, m.n)),
        EXAMPLE("huge grid",
                ANSM_FAST_LAUNCH((copy<1>), int64_t(1) << 32, kThreads, nullptr, m.in, m.out, m.n)),
        EXAMPLE("huge block", ANSM_FAST_LAUNCH((copy<1>), 1, 2048, nullptr, m.in, m.out, m.n)),
  };
  return examples;
}

std::string message;

}  // namespace

// The launch's error, or null.
extern "C" __attribute__((visibility("default"))) const char* simt_example(const char* name,
                                                                           const float* in,
                                                                           float* out, int64_t n,
                                                                           float* room) {
  const simt::Operation operation;
  simt::announce(in, size_t(n) * 4);
  simt::announce(out, size_t(n) * 4);
  try {
    all().at(name)({in, out, n, room});
  } catch (const simt::Error& error) {
    message = error.what();
    return message.c_str();
  }
  return nullptr;
}
