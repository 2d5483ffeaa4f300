// The functions that -fsanitize=thread makes a translation unit call at every load and store, ours
// instead of ThreadSanitizer's. This file is compiled without that flag.
#include <cstddef>
#include <cstdint>

#include "watch.h"

using simt::watch::Kind;

namespace {

// What the compiler cannot take for one instruction, the device moves in pieces.
inline void pieces(uintptr_t address, size_t bytes, size_t largest, Kind kind, void* code) {
  size_t piece = largest;
  while (address % piece != 0 || bytes % piece != 0) piece /= 2;
  for (size_t i = 0; i < bytes; i += piece)
    simt::watch::access(address + i, unsigned(piece), kind, false, code);
}

}  // namespace

#define SIMT_CODE __builtin_return_address(0)
#define SIMT_WHOLE(kind, bytes) \
  simt::watch::access(uintptr_t(address), bytes, Kind::kind, true, SIMT_CODE)
#define SIMT_PIECES(kind, bytes, largest) \
  pieces(uintptr_t(address), bytes, largest, Kind::kind, SIMT_CODE)

#define SIMT_HOOKS(bytes)                                                                          \
  void __tsan_read##bytes(void* address) { SIMT_WHOLE(kRead, bytes); }                             \
  void __tsan_write##bytes(void* address) { SIMT_WHOLE(kWrite, bytes); }                           \
  void __tsan_unaligned_read##bytes(void* address) { SIMT_PIECES(kRead, bytes, (bytes + 1) / 2); } \
  void __tsan_unaligned_write##bytes(void* address) { SIMT_PIECES(kWrite, bytes, (bytes + 1) / 2); }

// Host code of the same files counts references, for instance.
#define SIMT_ATOMIC(bits, type)                                                                    \
  type __tsan_atomic##bits##_load(const type* p, int) {                                            \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                \
  void __tsan_atomic##bits##_store(type* p, type v, int) {                                         \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                \
  type __tsan_atomic##bits##_exchange(type* p, type v, int) {                                      \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                            \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_add(type* p, type v, int) {                                     \
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_sub(type* p, type v, int) {                                     \
    return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_and(type* p, type v, int) {                                     \
    return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_or(type* p, type v, int) {                                      \
    return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST);                                              \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_xor(type* p, type v, int) {                                     \
    return __atomic_fetch_xor(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_strong(type* p, type* expected, type v, int, int) {   \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_weak(type* p, type* expected, type v, int, int) {     \
    return __atomic_compare_exchange_n(p, expected, v, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);  \
  }

extern "C" {

void __tsan_init() { simt::watch::watching = true; }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

SIMT_HOOKS(1)
SIMT_HOOKS(2)
SIMT_HOOKS(4)
SIMT_HOOKS(8)
SIMT_HOOKS(16)

void __tsan_read_range(void* address, size_t bytes) { SIMT_PIECES(kRead, bytes, 8); }
void __tsan_write_range(void* address, size_t bytes) { SIMT_PIECES(kWrite, bytes, 8); }

SIMT_ATOMIC(8, uint8_t)
SIMT_ATOMIC(16, uint16_t)
SIMT_ATOMIC(32, uint32_t)
SIMT_ATOMIC(64, uint64_t)
}
