// Part of a row of both maps in the registers of a warp or a block, read once.
#pragma once

#include "../common/reduce.cuh"
#include "cuda_layers.cuh"

namespace ansm_fast {
namespace gpu {
namespace channelwise_kl {

// kCount elements of each map for each of `threads` threads. Every loop over them ends with the
// last group of vectors that holds any; what a group holds beyond the row is -inf and adds nothing.
template <class T, int kCount>
struct Held {
  using A = accumulate_t<T>;
  static constexpr int V = kVectorWidth<T>;
  static constexpr int kGroups = kCount / V;

  A first[kCount], second[kCount];
  int thread, threads;
  int count;  // elements held by all threads together
  bool aligned;

  __device__ __forceinline__ bool has(int group) const { return group * V * threads < count; }

  // Neighbouring threads hold neighbouring vectors, or neighbouring elements where those lie at no
  // multiple of 16 bytes.
  __device__ __forceinline__ int vector_at(int group) const {
    return (group * threads + thread) * V;
  }
  __device__ __forceinline__ int element_at(int group, int i) const {
    return (group * V + i) * threads + thread;
  }

  __device__ __forceinline__ void load(const T* from_first, const T* from_second) {
    Vector<T, V> raw_first[kGroups], raw_second[kGroups];
    const T nothing = from<T>(-A(INFINITY));
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      if (!has(g)) break;
      if (aligned && vector_at(g) < count) {
        raw_first[g] = *reinterpret_cast<const Vector<T, V>*>(from_first + vector_at(g));
        raw_second[g] = *reinterpret_cast<const Vector<T, V>*>(from_second + vector_at(g));
      } else {
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const bool inside = !aligned && element_at(g, i) < count;
          raw_first[g].value[i] = inside ? from_first[element_at(g, i)] : nothing;
          raw_second[g].value[i] = inside ? from_second[element_at(g, i)] : nothing;
        }
      }
    }
    // Numbers are made only when all loads are issued.
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      if (!has(g)) break;
#pragma unroll
      for (int i = 0; i < V; ++i) {
        first[g * V + i] = to<A>(raw_first[g].value[i]);
        second[g * V + i] = to<A>(raw_second[g].value[i]);
      }
    }
  }

  __device__ __forceinline__ void maxima(A& max_first, A& max_second) const {
    max_first = max_second = kLowest<A>;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      if (!has(g)) break;
#pragma unroll
      for (int i = g * V; i < g * V + V; ++i) {
        max_first = larger(max_first, first[i]);
        max_second = larger(max_second, second[i]);
      }
    }
  }

  // Logits become shifted and scaled ones, u and v; or, with `kept`, exp(u) and d, which is all
  // that the gradient of `first` alone needs.
  __device__ __forceinline__ void shift(A max_first, A max_second, A scale, bool kept,
                                        A (&sums)[3]) {
    sums[0] = sums[1] = sums[2] = A(0);
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      if (!has(g)) break;
#pragma unroll
      for (int i = g * V; i < g * V + V; ++i) {
        const A u = (first[i] - max_first) * scale, v = (second[i] - max_second) * scale;
        const A exp_first = exponential(u), difference = u - v;
        sums[0] += exp_first;
        sums[1] += exponential(v);
        sums[2] += weighted(exp_first, difference);
        first[i] = kept ? exp_first : u;
        second[i] = kept ? difference : v;
      }
    }
  }

  // Adds to the second sums for alpha > 0; expects u and v.
  __device__ __forceinline__ void smooth(const Statistics<A>& row, A alpha, A (&sums)[3]) const {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      if (!has(g)) break;
#pragma unroll
      for (int i = g * V; i < g * V + V; ++i)
        add_smoothed(exponential(first[i]) * row.inverse_first,
                     exponential(second[i]) * row.inverse_second, alpha, sums[0], sums[1], sums[2]);
    }
  }

  __device__ __forceinline__ void put(T* target, int group, const A (&values)[V]) const {
    if (aligned) {
      if (vector_at(group) < count) store<V>(target + vector_at(group), values);
    } else {
#pragma unroll
      for (int i = 0; i < V; ++i)
        if (element_at(group, i) < count) target[element_at(group, i)] = from<T>(values[i]);
    }
  }

  // Expects what `shift` left.
  __device__ __forceinline__ void gradients(const Statistics<A>& row, const Constants<A>& k,
                                            bool kept, T* to_first, T* to_second) const {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      if (!has(g)) break;
      A of_first[V], of_second[V];
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const A x = first[g * V + i], y = second[g * V + i];
        if (kept) {
          of_first[i] = k.factor * weighted(x * row.inverse_first, y - row.mean_first);
          of_second[i] = A(0);
          continue;
        }
        const A p = exponential(x) * row.inverse_first, q = exponential(y) * row.inverse_second;
        const A wanted_first = k.smoothed ? smoothed_gradient_first(p, q, row.mean_first, k.alpha)
                                          : weighted(p, (x - y) - row.mean_first);
        const A wanted_second =
            k.smoothed ? smoothed_gradient_second(p, q, row.mean_second, k.alpha) : q - p;
        of_first[i] = k.factor * wanted_first;
        of_second[i] = k.factor * wanted_second;
      }
      if (to_first) put(to_first, g, of_first);
      if (to_second) put(to_second, g, of_second);
    }
  }
};

// A place of the maps, or null where the map is.
template <class T>
__device__ __forceinline__ const T* at(const void* map, int64_t offset) {
  return static_cast<const T*>(map) + offset;
}
template <class T>
__device__ __forceinline__ T* at(void* map, int64_t offset) {
  return map ? static_cast<T*>(map) + offset : nullptr;
}

// Maxima over a block, for all of its threads. `buffer` holds kMaxima * kWarp elements.
template <class A>
__device__ __forceinline__ void block_maxima(A& first, A& second, A* buffer) {
  const int warps = int(blockDim.x) / kWarp;  // a power of two
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  first = warp_max(first);
  second = warp_max(second);
  if (lane == 0) {
    buffer[warp] = first;
    buffer[kWarp + warp] = second;
  }
  __syncthreads();
  first = warp_max(buffer[lane % warps]);
  second = warp_max(buffer[kWarp + lane % warps]);
}

// Sums over a block, for its first warp. `buffer` holds 3 * kWarp elements.
template <class A>
__device__ __forceinline__ void block_sums(A (&sums)[3], A* buffer) {
  const int warps = int(blockDim.x) / kWarp;
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    sums[i] = warp_sum(sums[i]);
    if (lane == 0) buffer[i * kWarp + warp] = sums[i];
  }
  __syncthreads();
  if (warp == 0) {
#pragma unroll
    for (int i = 0; i < 3; ++i) sums[i] = warp_sum(lane < warps ? buffer[i * kWarp + lane] : A(0));
  }
}

}  // namespace channelwise_kl
}  // namespace gpu
}  // namespace ansm_fast
