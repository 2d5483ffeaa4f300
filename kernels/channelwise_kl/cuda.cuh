// Channel-wise KL on the device: the launches.
#pragma once

#include "cuda_combine.cuh"
#include "cuda_plan.cuh"
#include "cuda_scale.cuh"

namespace ansm_fast {
namespace gpu {
namespace channelwise_kl {

// Launches a kernel on all blocks of a table. A grid has a largest size: kernels add `first_block`.
#define ANSM_FAST_LAUNCH_TABLE(kernel, threads, stream, table)                                 \
  for ((table).first_block = 0; (table).first_block < (table).blocks;                          \
       (table).first_block += kMaxBlocks)                                                      \
  ANSM_FAST_LAUNCH(kernel, unsigned(grid_of((table).blocks - (table).first_block)), (threads), \
                   (stream), (table))

inline int64_t grid_of(int64_t blocks) { return blocks < kMaxBlocks ? blocks : kMaxBlocks; }

// Calls run(table) for tables of the layers with blocks_of(layer) > 0.
template <class BlocksOf, class Run>
void for_each_table(const Work& work, const BlocksOf& blocks_of, const Run& run) {
  Layers table;
  table.inverse_temperature = work.inverse_temperature;
  table.alpha = work.alpha;
  table.kl = work.kl;
  table.statistics = work.statistics;
  table.rows = work.rows;
  table.partials = work.partials;
  table.chunks = work.chunks;
  for (int64_t i = 0; i < work.count; ++i) {
    const int64_t blocks = blocks_of(work.layers[i]);
    if (blocks > 0) {
      Layer& layer = table.layer[table.count++];
      layer = work.layers[i];
      layer.first_block = table.blocks;
      table.blocks += blocks;
    }
    if (table.count == kMaxLayers || (table.count > 0 && i + 1 == work.count)) {
      run(table);
      table.count = 0;
      table.blocks = 0;
    }
  }
}

inline bool wants_gradient(const Layer& layer) { return layer.grad_first || layer.grad_second; }

template <class T>
void launch_rows(const Work& work, cudaStream_t stream) {
  const auto warps = [](const Layer& layer) {
    return layer.route == Route::kWarp ? blocks_for(layer.rows(), kRowsOfBlock) : 0;
  };
  for_each_table(work, warps, [&](Layers& table) {
    ANSM_FAST_LAUNCH_TABLE((rows_warp<T, kRowCount<T>>), kRowThreads, stream, table);
  });
  for (int threads = kMaxBlockThreads<T>; threads >= kMinBlockThreads; threads /= 2) {
    const auto blocks = [&](const Layer& layer) {
      return layer.route == Route::kBlock && layer.threads == threads ? layer.rows() : 0;
    };
    for_each_table(work, blocks, [&](Layers& table) {
      ANSM_FAST_LAUNCH_TABLE((rows_block<T, kRowCount<T>>), threads, stream, table);
    });
  }
}

template <class A>
void launch_combine(const Work& work, bool smoothed, cudaStream_t stream) {
  const auto blocks = [](const Layer& layer) { return layer.chunks ? combine_blocks(layer) : 0; };
  for_each_table(work, blocks, [&](Layers& table) {
    if (smoothed)
      ANSM_FAST_LAUNCH_TABLE((combine_smoothed<A>), kCombineThreads, stream, table);
    else
      ANSM_FAST_LAUNCH_TABLE((combine<A>), kCombineThreads, stream, table);
  });
}

// Layers whose rows are cut: statistics, sums for alpha > 0, gradients.
template <class T>
void launch_chunks(const Work& work, cudaStream_t stream) {
  using A = accumulate_t<T>;
  constexpr int V = kVectorWidth<T>;
  const auto split = [](const Layer& layer) {
    return layer.route == Route::kSplit ? layer.rows() * layer.chunks : 0;
  };
  const auto columns = [](const Layer& layer) {
    return layer.route == Route::kColumns ? column_blocks<T>(layer) : 0;
  };
  const auto unaligned = [](const Layer& layer) {
    return layer.route == Route::kUnalignedColumns ? column_blocks<T>(layer) : 0;
  };
  const auto where_wanted = [](const auto& blocks_of) {
    return [&](const Layer& layer) { return wants_gradient(layer) ? blocks_of(layer) : 0; };
  };
  for_each_table(work, split, [&](Layers& table) {
    ANSM_FAST_LAUNCH_TABLE((split_statistics<T>), kSplitThreads, stream, table);
  });
  for_each_table(work, columns, [&](Layers& table) {
    ANSM_FAST_LAUNCH_TABLE((column_statistics<T, V>), kColumnThreads, stream, table);
  });
  for_each_table(work, unaligned, [&](Layers& table) {
    ANSM_FAST_LAUNCH_TABLE((column_statistics<T, 1>), kColumnThreads, stream, table);
  });
  launch_combine<A>(work, false, stream);
  if (work.alpha > 0) {
    for_each_table(work, split, [&](Layers& table) {
      ANSM_FAST_LAUNCH_TABLE((split_smoothed<T>), kSplitThreads, stream, table);
    });
    for_each_table(work, columns, [&](Layers& table) {
      ANSM_FAST_LAUNCH_TABLE((column_smoothed<T, V>), kColumnThreads, stream, table);
    });
    for_each_table(work, unaligned, [&](Layers& table) {
      ANSM_FAST_LAUNCH_TABLE((column_smoothed<T, 1>), kColumnThreads, stream, table);
    });
    launch_combine<A>(work, true, stream);
  }
  for_each_table(work, where_wanted(split), [&](Layers& table) {
    ANSM_FAST_LAUNCH_TABLE((split_gradients<T>), kSplitThreads, stream, table);
  });
  for_each_table(work, where_wanted(columns), [&](Layers& table) {
    ANSM_FAST_LAUNCH_TABLE((column_gradients<T, V>), kColumnThreads, stream, table);
  });
  for_each_table(work, where_wanted(unaligned), [&](Layers& table) {
    ANSM_FAST_LAUNCH_TABLE((column_gradients<T, 1>), kColumnThreads, stream, table);
  });
}

template <class T>
void launch_forward_of(const Work& work, cudaStream_t stream) {
  launch_rows<T>(work, stream);
  if (work.chunks > 0) launch_chunks<T>(work, stream);
}

// The KL of every row and the gradients of all layers, after `plan`.
inline void launch_forward(const Work& work, cudaStream_t stream) {
  switch (work.type) {
    case ElementType::kFloat64: return launch_forward_of<double>(work, stream);
    case ElementType::kFloat16: return launch_forward_of<Half>(work, stream);
    case ElementType::kBFloat16: return launch_forward_of<BFloat16>(work, stream);
    default: return launch_forward_of<float>(work, stream);
  }
}

// Elements of double that `launch_losses` needs for rows that several blocks add up.
inline int64_t loss_workspace(const Loss& loss) {
  return !loss.each && loss.count > kRowsAtOnce ? blocks_for(loss.count, kRowsAtOnce) : 0;
}

template <class Out>
void launch_losses_of(const Loss* losses, int64_t count, double* workspace, cudaStream_t stream) {
  for (int64_t begin = 0; begin < count; begin += kMaxLayers) {
    Losses parts, table;
    for (int64_t i = begin; i < count && i < begin + kMaxLayers; ++i) {
      Loss loss = losses[i];
      if (const int64_t blocks = loss_workspace(loss)) {
        Loss& part = parts.loss[parts.count++];
        part = loss;
        part.out = workspace;
        part.per_block = kRowsAtOnce;
        part.divisor = 1;
        part.first_block = parts.blocks;
        parts.blocks += blocks;
        loss.values = workspace;
        loss.count = blocks;
        workspace += blocks;
      }
      loss.per_block = loss.each ? kRowsAtOnce : loss.count;
      loss.first_block = table.blocks;
      const int64_t blocks = loss.each ? blocks_for(loss.count, kRowsAtOnce) : 1;
      if (blocks == 0) continue;
      table.blocks += blocks;
      table.loss[table.count++] = loss;
    }
    ANSM_FAST_LAUNCH_TABLE((losses_of_rows<double>), kLossThreads, stream, parts);
    ANSM_FAST_LAUNCH_TABLE((losses_of_rows<Out>), kLossThreads, stream, table);
  }
}

// Losses of float64 where `is_double`, else of float32.
inline void launch_losses(const Loss* losses, int64_t count, bool is_double, double* workspace,
                          cudaStream_t stream) {
  if (is_double)
    launch_losses_of<double>(losses, count, workspace, stream);
  else
    launch_losses_of<float>(losses, count, workspace, stream);
}

template <class T>
void launch_scale_of(Scaling io, cudaStream_t stream) {
  constexpr int V = kVectorWidth<T>;
  io.layer.second = io.factor;  // which must be aligned as well
  plan_layer<T>(io.layer);
  if (io.layer.route == Route::kNone) return;
  if (io.layer.channels_last && !io.uniform) {
    io.blocks = column_blocks<T>(io.layer);
    if (io.layer.aligned)
      ANSM_FAST_LAUNCH_TABLE((scale_columns<T, V>), kColumnThreads, stream, io);
    else
      ANSM_FAST_LAUNCH_TABLE((scale_columns<T, 1>), kColumnThreads, stream, io);
    return;
  }
  const int64_t count = io.layer.rows() * io.layer.pixels;
  const bool aligned = (io.uniform ? count : io.layer.pixels) % V == 0 &&
                       is_aligned(io.layer.first) && is_aligned(io.layer.grad_first);
  io.blocks = blocks_for(count, int64_t(kScaleThreads) * kVectorsOfThread * (aligned ? V : 1));
  if (aligned)
    ANSM_FAST_LAUNCH_TABLE((scale_rows<T, V>), kScaleThreads, stream, io);
  else
    ANSM_FAST_LAUNCH_TABLE((scale_rows<T, 1>), kScaleThreads, stream, io);
}

inline void launch_scale(const Scaling& io, ElementType type, cudaStream_t stream) {
  switch (type) {
    case ElementType::kFloat64: return launch_scale_of<double>(io, stream);
    case ElementType::kFloat16: return launch_scale_of<Half>(io, stream);
    case ElementType::kBFloat16: return launch_scale_of<BFloat16>(io, stream);
    default: return launch_scale_of<float>(io, stream);
  }
}

}  // namespace channelwise_kl
}  // namespace gpu
}  // namespace ansm_fast
