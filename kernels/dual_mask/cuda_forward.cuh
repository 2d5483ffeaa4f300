// Five sums for each branch and sample, and the loss that follows from them.
#pragma once

#include "cuda_pixel.cuh"

namespace ansm_fast {
namespace gpu {
namespace dual_mask {

template <class A>
struct PieceSums {
  A of[kSums] = {};
  A product = 0;  // of 1 + e over the pixels, less 1

  template <int V>
  __device__ __forceinline__ void add(const A (&logits)[V], const A (&mask)[V],
                                      const A (&target)[V], const bool (&keep)[V], bool weighted,
                                      A pos_weight) {
    A decays[V];
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const A z = logits[i], y = mask[i], t = target[i];
      decays[i] = decay_of(z);
      const A p = logistic(z, decays[i]).probability;
      // -log p is log(1 + e) - min(z, 0), and -log(1 - p) is log(1 + e) + max(z, 0).
      const A certain = weighted ? pos_weight * t : t;
      const A slope = z >= A(0) ? A(1) - t : -certain;
      of[0] += keep[i] ? slope * z : A(0);
      of[1] += keep[i] ? p * y : A(0);
      of[2] += keep[i] ? p : A(0);
      of[3] += keep[i] ? y : A(0);
      of[4] += keep[i] ? A(1) : A(0);
    }
    if (weighted) {
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const A share = multiply_add(pos_weight - A(1), target[i], A(1));
        of[0] += keep[i] ? share * log_of_one_plus(decays[i]) : A(0);
      }
    } else {
      // (1 + a)(1 + b) is 1 + (a + b + a b): a thread's pixels of a piece, whose product is at most
      // 2^16, share one logarithm, and small ones keep their relative precision.
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const A e = keep[i] ? decays[i] : A(0);
        product = multiply_add(product, e, product + e);
      }
    }
  }

  __device__ __forceinline__ void finish(bool weighted) {
    if (!weighted) of[0] += log_of_one_plus(product);
  }
};

static_assert(kPieceElements / kTileThreads <= 64, "the product of 1 + e must stay finite");

template <class T, int V>
__global__ void __launch_bounds__(kTileThreads, kBlocksPerProcessor<V>)
    forward_kernel(Inputs in, SampleNumber pos_weight, bool weighted, Samples samples,
                   double* partials) {
  using A = accumulate_t<T>;
  constexpr int kBuffer = kSums * kBufferPerSum;  // of one branch
  ANSM_FAST_SHARED(A, buffer, (kMaxBranches * kBuffer));
  const A weight = pos_weight_of<A>(pos_weight), ignore = ignored_value<A>(in);
  const bool two = in.branches == 2;
  const int64_t begin = int64_t(blockIdx.x) * kPieceElements, stop = begin + kPieceElements;
  const int64_t end = stop < samples.elements ? stop : samples.elements;
  for (int64_t sample = blockIdx.y; sample < samples.count; sample += gridDim.y) {
    PieceSums<A> sums[kMaxBranches];
#pragma unroll 1
    for (int64_t at = begin; at < end; at += Tile<V>::kElements) {
      const Tile<V> tile(samples, sample, at);
      A mask[V], target[V], logits[V];
      bool keep[V];
#pragma unroll
      for (int b = 0; b < kMaxBranches; ++b) {
        if (b > 0 && !two) continue;
        const Vector<T, V> stored = tile.template load<T>(in.logits[b].data);
        load_targets(in.mask[b], in.target[b], tile, ignore, mask, target);
#pragma unroll
        for (int i = 0; i < V; ++i) {
          logits[i] = to<A>(stored.value[i]);
          keep[i] = tile.has(i) && !(in.has_ignore && mask[i] == A(kIgnored));
        }
        sums[b].add(logits, mask, target, keep, weighted, weight);
      }
    }
    const int64_t stride = kSums * samples.count * int64_t(gridDim.x);
#pragma unroll
    for (int b = 0; b < kMaxBranches; ++b) {
      if (b > 0 && !two) continue;
      sums[b].finish(weighted);
      write_partials(sums[b].of, buffer + b * kBuffer, sample, samples.count,
                     partials + b * stride);
    }
    __syncthreads();
  }
}

// `terms`: BCE and Dice of each branch, [2 * branch + term][sample].
template <int kBranches>
struct FinishSums {
  double* sums;
  double* terms;
  int64_t samples;
  double smooth;

  __device__ void operator()(int64_t sample, const double (&values)[kBranches * kSums]) const {
#pragma unroll
    for (int k = 0; k < kBranches * kSums; ++k)
      sums[(k / kSums * samples + sample) * kSums + k % kSums] = values[k];
#pragma unroll
    for (int b = 0; b < kBranches; ++b) {
      const double* v = values + b * kSums;
      const Sums s{v[0], v[1], v[2], v[3], v[4]};
      terms[2 * b * samples + sample] = bce_of(s);
      terms[(2 * b + 1) * samples + sample] = dice_of(s, smooth);
    }
  }
};

// One thread for a sample where each has its loss, else one block for the total, added in a fixed
// order.
template <class A>
__global__ void __launch_bounds__(kTileThreads)
    loss_kernel(const double* terms, int branches, int64_t samples, Weights weights,
                Reduction reduction, A* loss, A* components) {
  constexpr int kTotals = 1 + 2 * kMaxBranches;
  ANSM_FAST_SHARED(double, buffer, (kTotals * kBufferPerSum));
  const bool each = reduction == Reduction::kNone;
  const int64_t threads = int64_t(gridDim.x) * kTileThreads;
  double totals[kTotals] = {};
  for (int64_t i = int64_t(blockIdx.x) * kTileThreads + threadIdx.x; i < samples; i += threads) {
    double value = 0;
#pragma unroll
    for (int b = 0; b < kMaxBranches; ++b) {
      if (b >= branches) continue;
      const double bce = terms[2 * b * samples + i], dice = terms[(2 * b + 1) * samples + i];
      value += loss_of(bce, dice, weights.branch[b], weights);
      totals[1 + 2 * b] += bce;
      totals[2 + 2 * b] += dice;
      if (each) {
        components[2 * b * samples + i] = A(bce);
        components[(2 * b + 1) * samples + i] = A(dice);
      }
    }
    totals[0] += value;
    if (each) loss[i] = A(value);
  }
  if (each) return;
  block_sum<kTileThreads>(totals, buffer);
  if (threadIdx.x != 0) return;
  const double divisor = reduction == Reduction::kMean ? double(samples) : 1.0;
  loss[0] = A(totals[0] / divisor);
#pragma unroll
  for (int k = 0; k < 2 * kMaxBranches; ++k)
    if (k < 2 * branches) components[k] = A(totals[1 + k] / divisor);
}

}  // namespace dual_mask
}  // namespace gpu
}  // namespace ansm_fast
