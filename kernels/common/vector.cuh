// Loads and stores of up to 16 bytes a thread.
#pragma once

#include "numbers.cuh"

namespace ansm_fast {
namespace gpu {

// V elements that one instruction moves: the address must be a multiple of their size.
template <class T, int V>
struct alignas(sizeof(T) * V) Vector {
  T value[V];
};

constexpr int kVectorBytes = 16;

template <class T>
constexpr int kVectorWidth = kVectorBytes / int(sizeof(T));

inline bool is_aligned(const void* pointer, int bytes = kVectorBytes) {
  return reinterpret_cast<uintptr_t>(pointer) % uintptr_t(bytes) == 0;
}

template <int V, class A, class T>
__device__ __forceinline__ void load(const T* __restrict__ source, A (&out)[V]) {
  const Vector<T, V> loaded = *reinterpret_cast<const Vector<T, V>*>(source);
#pragma unroll
  for (int i = 0; i < V; ++i) out[i] = to<A>(loaded.value[i]);
}

template <int V, class A, class T>
__device__ __forceinline__ void store(T* __restrict__ target, const A (&values)[V]) {
  Vector<T, V> stored;
#pragma unroll
  for (int i = 0; i < V; ++i) stored.value[i] = from<T>(values[i]);
  *reinterpret_cast<Vector<T, V>*>(target) = stored;
}

}  // namespace gpu
}  // namespace ansm_fast
