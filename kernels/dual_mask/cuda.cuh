// BCE + Dice of one or two branches against a mask on the device: five sums for each branch and
// sample, the loss that follows from them, and the gradient. Formulas and traffic: README.md.
#pragma once

#include "cuda_pixel.cuh"

namespace ansm_fast {
namespace gpu {
namespace dual_mask {

enum class Reduction : uint8_t { kNone, kSum, kMean };

// What both passes take beside `in`, whose pos_weight is not used: the device reads its own.
struct Batch {
  int64_t samples = 0;
  int64_t elements = 0;  // of one sample
  SampleNumber pos_weight;
  Weights weights;
  Reduction reduction = Reduction::kMean;
  double* sums = nullptr;  // [branch][sample][kSums]
};

// `loss` and `components` are float64 where the logits are, else float32.
struct Results {
  void* loss = nullptr;
  void* components = nullptr;
  double* partials = nullptr;  // of `partials_size` numbers
};

struct Gradient {
  const void* grad_output = nullptr;
  bool is_double = false;  // grad_output: float64, else float32
  bool each = false;       // one for each sample
  Field out[kMaxBranches];
};

// --- forward ----------------------------------------------------------------------------------

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
__global__ void __launch_bounds__(kTileThreads)
    forward_kernel(Inputs in, SampleNumber pos_weight, bool weighted, Samples samples,
                   double* partials) {
  using A = accumulate_t<T>;
  constexpr int kRoom = kSums * kRoomPerSum;  // of one branch
  ANSM_FAST_SHARED(A, room, (kMaxBranches * kRoom));
  const A weight = A(pos_weight[0]), ignore = A(in.ignore);
  const bool two = in.branches == 2;
  const int64_t begin = int64_t(blockIdx.x) * kPieceElements, stop = begin + kPieceElements;
  const int64_t end = stop < samples.elements ? stop : samples.elements;
  for (int64_t sample = blockIdx.y; sample < samples.count; sample += gridDim.y) {
    PieceSums<A> sums[kMaxBranches];
    for (int64_t at = begin; at < end; at += Tile<V>::kElements) {
      const Tile<V> tile(samples, sample, at);
      Vector<T, V> stored[kMaxBranches] = {};
#pragma unroll
      for (int b = 0; b < kMaxBranches; ++b)
        if (b == 0 || two) stored[b] = tile.template load<T>(in.logits[b].data);
      A mask[V], target[V], logits[V];
      bool keep[V];
#pragma unroll
      for (int b = 0; b < kMaxBranches; ++b) {
        if (b > 0 && !two) continue;
        load_targets(in, b, tile, mask, target);
#pragma unroll
        for (int i = 0; i < V; ++i) {
          logits[i] = to<A>(stored[b].value[i]);
          keep[i] = tile.has(i) && !(in.has_ignore && mask[i] == ignore);
        }
        sums[b].add(logits, mask, target, keep, weighted, weight);
      }
    }
    const int64_t stride = kSums * samples.count * int64_t(gridDim.x);
#pragma unroll
    for (int b = 0; b < kMaxBranches; ++b) {
      if (b > 0 && !two) continue;
      sums[b].finish(weighted);
      write_partials(sums[b].of, room + b * kRoom, sample, samples.count, partials + b * stride);
    }
    __syncthreads();
  }
}

template <int kBranches>
struct FinishSums {
  double* sums;
  int64_t samples;

  __device__ void operator()(int64_t sample, const double (&values)[kBranches * kSums]) const {
#pragma unroll
    for (int k = 0; k < kBranches * kSums; ++k)
      sums[(k / kSums * samples + sample) * kSums + k % kSums] = values[k];
  }
};

__device__ __forceinline__ Sums sums_at(const double* sums, int64_t index) {
  const double* s = sums + index * kSums;
  return {s[0], s[1], s[2], s[3], s[4]};
}

// One thread for a sample where each has its loss, else one block for the total, added in a fixed
// order.
template <class A>
__global__ void __launch_bounds__(kTileThreads)
    loss_kernel(const double* sums, int branches, int64_t samples, Weights weights,
                Reduction reduction, A* loss, A* components) {
  constexpr int kTotals = 1 + 2 * kMaxBranches;
  ANSM_FAST_SHARED(double, room, (kTotals * kRoomPerSum));
  const bool each = reduction == Reduction::kNone;
  const int64_t threads = int64_t(gridDim.x) * kTileThreads;
  double totals[kTotals] = {};
  for (int64_t i = int64_t(blockIdx.x) * kTileThreads + threadIdx.x; i < samples; i += threads) {
    double value = 0;
#pragma unroll
    for (int b = 0; b < kMaxBranches; ++b) {
      if (b >= branches) continue;
      const Sums s = sums_at(sums, b * samples + i);
      const double bce = bce_of(s), dice = dice_of(s, weights.smooth);
      value += weights.branch[b] * (weights.bce * bce + weights.dice * dice);
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
  block_sum<kTileThreads>(totals, room);
  if (threadIdx.x != 0) return;
  const double divisor = reduction == Reduction::kMean ? double(samples) : 1.0;
  loss[0] = A(totals[0] / divisor);
#pragma unroll
  for (int k = 0; k < 2 * kMaxBranches; ++k)
    if (k < 2 * branches) components[k] = A(totals[1 + k] / divisor);
}

// --- backward ---------------------------------------------------------------------------------

template <class A>
__device__ __forceinline__ A pixel_gradient(A z, A y, A t, A pos_weight, const A* c) {
  const A bce = c[0], base = c[1], slope = c[2];
  const Logistic<A> l = logistic(z, decay_of(z));
  // p [bce (1 - t) + (1 - p) (base - slope y)] - (1 - p) bce pos_weight t
  A g = multiply_add(-bce, t, bce);
  g = multiply_add(l.complement, multiply_add(-slope, y, base), g);
  return multiply_add(l.probability, g, -pos_weight * bce * t * l.complement);
}

template <class T, int V>
__global__ void __launch_bounds__(kTileThreads)
    backward_kernel(Inputs in, Batch batch, Samples samples, Gradient gradient) {
  using A = accumulate_t<T>;
  constexpr int kNumbers = 3;  // in Coefficients
  ANSM_FAST_SHARED(A, shared, (kMaxBranches * kNumbers));
  const A weight = A(batch.pos_weight[0]), ignore = A(in.ignore);
  const int64_t begin = int64_t(blockIdx.x) * kPieceElements, stop = begin + kPieceElements;
  const int64_t end = stop < samples.elements ? stop : samples.elements;
  for (int64_t sample = blockIdx.y; sample < samples.count; sample += gridDim.y) {
    if (int(threadIdx.x) < in.branches) {
      const int b = int(threadIdx.x);
      const int64_t at = gradient.each ? sample : 0;
      const double factor = gradient.is_double
                                ? static_cast<const double*>(gradient.grad_output)[at]
                                : double(static_cast<const float*>(gradient.grad_output)[at]);
      const double share = batch.reduction == Reduction::kMean ? 1 / double(samples.count) : 1.0;
      const double g =
          (b == 0 ? batch.weights.branch[0] : batch.weights.branch[1]) * share * factor;
      const Coefficients c =
          coefficients_of(sums_at(batch.sums, b * samples.count + sample), g, batch.weights);
      shared[b * kNumbers] = A(c.bce);
      shared[b * kNumbers + 1] = A(c.dice_base);
      shared[b * kNumbers + 2] = A(c.dice_slope);
    }
    __syncthreads();
    for (int64_t at = begin; at < end; at += Tile<V>::kElements) {
      const Tile<V> tile(samples, sample, at);
      Vector<T, V> stored[kMaxBranches] = {};
#pragma unroll
      for (int b = 0; b < kMaxBranches; ++b)
        if (gradient.out[b].data) stored[b] = tile.template load<T>(in.logits[b].data);
      A mask[V], target[V];
#pragma unroll
      for (int b = 0; b < kMaxBranches; ++b) {
        const bool lends = b == 0 && gradient.out[1].data && !in.mask[1].data;
        if (!gradient.out[b].data) {
          if (lends) load_any(in.mask[b], tile, mask);
          continue;
        }
        load_targets(in, b, tile, mask, target);
        Vector<T, V> out;
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const A z = to<A>(stored[b].value[i]), y = mask[i];
          const A g = pixel_gradient(z, y, target[i], weight, shared + b * kNumbers);
          out.value[i] = from<T>(in.has_ignore && y == ignore ? A(0) : g);
        }
        tile.store(gradient.out[b].data, out);
      }
    }
    __syncthreads();
  }
}

// --- launches ---------------------------------------------------------------------------------

inline int64_t partials_size(const Inputs& in, const Batch& batch) {
  return in.branches * kSums * batch.samples * pieces_of(batch.elements);
}

// Wide masks narrow the vectors of half types: each access of a warp is without gaps.
inline int vector_width(const Inputs& in) {
  int64_t widest = size_of(in.logits[0].type);
  for (int b = 0; b < kMaxBranches; ++b)
    for (const Field& field : {in.mask[b], in.target[b]})
      if (field.data && size_of(field.type) > widest) widest = size_of(field.type);
  return int(kVectorBytes / widest);
}

template <int V>
Samples samples_of(const Inputs& in, const Batch& batch, const Field* gradients) {
  Samples samples{batch.samples, batch.elements, true};
  for (int b = 0; b < kMaxBranches; ++b)
    for (const Field& field : {in.logits[b], in.mask[b], in.target[b], gradients[b]})
      if (field.data)
        samples.aligned = samples.aligned && rows_aligned(field, batch.samples, batch.elements, V);
  return samples;
}

// function(a value of the logits' type, a constant: the elements of a vector).
template <class Function>
void for_logits(const Inputs& in, const Function& function) {
  for_floating(in.logits[0].type, [&](auto zero) {
    constexpr int kWidth = kVectorWidth<decltype(zero)>;
    if constexpr (kWidth == 8) {
      if (vector_width(in) < kWidth)
        return function(zero, std::integral_constant<int, kWidth / 2>());
    }
    function(zero, std::integral_constant<int, kWidth>());
  });
}

// A pos_weight of 1 that the host knows needs no logarithm for every pixel.
inline bool is_weighted(const Batch& batch) {
  return batch.pos_weight.numbers || batch.pos_weight.number != 1;
}

inline void launch_forward(const Inputs& in, const Batch& batch, const Results& results,
                           cudaStream_t stream) {
  const int64_t pieces = pieces_of(batch.elements);
  if (batch.samples > 0 && pieces > 0) {
    for_logits(in, [&](auto zero, auto width) {
      using T = decltype(zero);
      constexpr int V = decltype(width)::value;
      const Field none[kMaxBranches];
      const Samples samples = samples_of<V>(in, batch, none);
      ANSM_FAST_LAUNCH((forward_kernel<T, V>), sample_grid(samples, kPieceElements),
                       dim3(kTileThreads), stream, in, batch.pos_weight, is_weighted(batch),
                       samples, results.partials);
    });
  }
  if (in.branches == 2)
    combine<2 * kSums>(results.partials, batch.samples, pieces,
                       FinishSums<2>{batch.sums, batch.samples}, stream);
  else
    combine<kSums>(results.partials, batch.samples, pieces,
                   FinishSums<1>{batch.sums, batch.samples}, stream);
  const bool each = batch.reduction == Reduction::kNone;
  if (each && batch.samples == 0) return;
  const int64_t needed = each ? blocks_for(batch.samples, kTileThreads) : 1;
  const dim3 grid(unsigned(needed < kMaxBlocks ? needed : kMaxBlocks));
  const auto launch = [&](auto zero) {
    using A = decltype(zero);
    ANSM_FAST_LAUNCH((loss_kernel<A>), grid, dim3(kTileThreads), stream, batch.sums, in.branches,
                     batch.samples, batch.weights, batch.reduction, static_cast<A*>(results.loss),
                     static_cast<A*>(results.components));
  };
  if (in.logits[0].type == ElementType::kFloat64)
    launch(double());
  else
    launch(float());
}

inline void launch_backward(const Inputs& in, const Batch& batch, const Gradient& gradient,
                            cudaStream_t stream) {
  const bool wanted = gradient.out[0].data || gradient.out[1].data;
  if (batch.samples == 0 || batch.elements == 0 || !wanted) return;
  for_logits(in, [&](auto zero, auto width) {
    using T = decltype(zero);
    constexpr int V = decltype(width)::value;
    const Samples samples = samples_of<V>(in, batch, gradient.out);
    ANSM_FAST_LAUNCH((backward_kernel<T, V>), sample_grid(samples, kPieceElements),
                     dim3(kTileThreads), stream, in, batch, samples, gradient);
  });
}

}  // namespace dual_mask
}  // namespace gpu
}  // namespace ansm_fast
