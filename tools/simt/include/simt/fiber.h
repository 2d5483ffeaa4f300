// A stack of its own for every thread, and the switch between them: assembly on x86-64, ucontext
// elsewhere, with the annotations that AddressSanitizer needs.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <stdexcept>
#include <vector>

#if !defined(__x86_64__)
#define SIMT_UCONTEXT
#endif
#ifdef SIMT_UCONTEXT
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt {

struct Fiber {
#ifdef SIMT_UCONTEXT
  ucontext_t context;
#else
  void* stack_pointer = nullptr;
#endif
  char* stack = nullptr;
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;
};

// The stacks of all fibers, next to each other, each above a page that faults when it overflows.
class Stacks {
 public:
  static constexpr size_t kGuard = 4096, kBytes = 256 * 1024;

  char* get(int index) {
    if (!base_) reserve();
    char* stack = base_ + size_t(index) * kBytes;
    if (index >= guarded_) {
      for (; guarded_ <= index; ++guarded_)
        mprotect(base_ + size_t(guarded_) * kBytes, kGuard, PROT_NONE);
    }
    return stack + kGuard;
  }
  bool contains(uintptr_t address) const { return address - uintptr_t(base_) < kAll; }

 private:
  static constexpr size_t kAll = 1024 * kBytes;

  void reserve() {
    void* memory = mmap(nullptr, kAll, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("simt: no memory for the fibers' stacks");
    base_ = static_cast<char*>(memory);
  }

  char* base_ = nullptr;
  int guarded_ = 0;
};

#ifndef SIMT_UCONTEXT
extern "C" void simt_switch_stacks(void** save, void* to);
asm(R"(
.pushsection .text
.local simt_switch_stacks
.type simt_switch_stacks, @function
simt_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch_stacks, .-simt_switch_stacks
.popsection
)");
#endif

// Functions that never return, the last of every thread and those in which a launch failed, leave
// their frames poisoned: of the former a small part of the stack.
inline void forget_frames(Fiber& fiber, size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  if (bytes > fiber.stack_bytes) bytes = fiber.stack_bytes;
  __asan_unpoison_memory_region(fiber.stack + fiber.stack_bytes - bytes, bytes);
#else
  (void)fiber;
  (void)bytes;
#endif
}

// Makes the fiber start at `entry` when it is switched to. Stacks of many fibers start at different
// places in their pages, or they would compete for the same few cache lines.
inline void prepare(Fiber& fiber, char* stack, int index, void (*entry)()) {
  fiber.stack = stack;
  fiber.stack_bytes = Stacks::kBytes - Stacks::kGuard;
  fiber.fake_stack = nullptr;
  forget_frames(fiber, 64 * 1024);
  const size_t spread = size_t(index) * 320 % 16384;
#ifdef SIMT_UCONTEXT
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack;
  fiber.context.uc_stack.ss_size = fiber.stack_bytes - spread;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
#else
  uintptr_t top = uintptr_t(stack) + fiber.stack_bytes - 64 - spread;
  void** place = reinterpret_cast<void**>(top & ~uintptr_t(15));
  *--place = nullptr;
  *--place = reinterpret_cast<void*>(entry);
  fiber.stack_pointer = place - 6;
#endif
}

// `from` never runs again where it is finished.
inline void switch_fibers(Fiber& from, Fiber& to, bool finished) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(finished ? nullptr : &from.fake_stack, to.stack, to.stack_bytes);
#else
  (void)finished;
#endif
#ifdef SIMT_UCONTEXT
  swapcontext(&from.context, &to.context);
#else
  simt_switch_stacks(&from.stack_pointer, to.stack_pointer);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

// To be called first on a new fiber; `host` is where the launch was called, whose stack is not
// ours.
inline void arrive(Fiber& host, bool from_host) {
#if defined(__SANITIZE_ADDRESS__)
  const void* stack;
  size_t bytes;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
  if (from_host) {
    host.stack = static_cast<char*>(const_cast<void*>(stack));
    host.stack_bytes = bytes;
  }
#else
  (void)host;
  (void)from_host;
#endif
}

}  // namespace simt
