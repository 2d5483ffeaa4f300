// Clamp-and-project, gradient step and momentum step: the kernels that write, and the launches.
// The formulas, the traffic and what the budget means in each dtype are in README.md.
#pragma once

#include "cuda_sums.cuh"

namespace ansm_fast {
namespace gpu {
namespace perturbation {

// What the launches of all ops take beside their tensors, which are of one floating type.
struct Batch {
  int64_t samples = 0;
  int64_t elements = 0;  // of one sample
  Norm norm = Norm::kLinf;
  SampleNumber alpha, eps;
  double min = 0;
  double max = 1;
  double* workspace = nullptr;  // of `workspace_size` numbers
};

// --- kernels ----------------------------------------------------------------------------------

// `scales` is null in linf, here and below.
template <class T>
__global__ void __launch_bounds__(kTileThreads)
    project_kernel(Projection io, Samples samples, SampleNumber budget,
                   Range<accumulate_t<T>> range, const ProjectionScale* scales) {
  using A = accumulate_t<T>;
  constexpr int V = kVectorWidth<T>;
  const bool linf = scales == nullptr;
  for (int64_t sample = blockIdx.y; sample < samples.count; sample += gridDim.y) {
    const Tile<V> tile(samples, sample, int64_t(blockIdx.x) * Tile<V>::kElements);
    const Vector<T, V> image = tile.template load<T>(io.image.data);
    const Vector<T, V> noise = tile.template load<T>(io.perturbation.data);
    const A eps = A(budget[sample]), shrink = linf ? A(1) : A(scales[sample].offset);
    Vector<T, V> out;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const A x = to<A>(image.value[i]);
      const A sum = x + projected(to<A>(noise.value[i]), linf, eps, shrink);
      out.value[i] =
          stored_within<T>(clamped(sum, range.min, range.max), x, range, linf ? eps : A(-1));
    }
    tile.store(io.out.data, out);
  }
}

template <class T>
__global__ void __launch_bounds__(kTileThreads)
    project_backward_kernel(ProjectionGradient io, Samples samples, SampleNumber budget,
                            Range<accumulate_t<T>> range, const ProjectionScale* scales) {
  using A = accumulate_t<T>;
  constexpr int V = kVectorWidth<T>;
  const bool linf = scales == nullptr;
  for (int64_t sample = blockIdx.y; sample < samples.count; sample += gridDim.y) {
    const Tile<V> tile(samples, sample, int64_t(blockIdx.x) * Tile<V>::kElements);
    const Vector<T, V> image = tile.template load<T>(io.image.data);
    const Vector<T, V> noise = tile.template load<T>(io.perturbation.data);
    const Vector<T, V> grad = tile.template load<T>(io.grad_output.data);
    const A eps = A(budget[sample]), shrink = linf ? A(1) : A(scales[sample].offset);
    const A radial = linf ? A(0) : A(scales[sample].radial);
    Vector<T, V> to_image, to_noise;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const A p = to<A>(noise.value[i]);
      const A value = to<A>(image.value[i]) + projected(p, linf, eps, shrink);
      const A passed = value >= range.min && value <= range.max ? to<A>(grad.value[i]) : A(0);
      const A within = p >= -eps && p <= eps ? passed : A(0);
      to_image.value[i] = from<T>(passed);
      to_noise.value[i] = from<T>(linf ? within : shrink * (passed - p * radial));
    }
    if (io.grad_image.data) tile.store(io.grad_image.data, to_image);
    if (io.grad_perturbation.data) tile.store(io.grad_perturbation.data, to_noise);
  }
}

// A step that needs no sums, the plain one in linf, has no `scales`.
template <class T>
__global__ void __launch_bounds__(kTileThreads)
    step_kernel(Step step, bool linf, Samples samples, SampleNumber size, SampleNumber budget,
                Range<accumulate_t<T>> range, const StepScale* scales) {
  using A = accumulate_t<T>;
  constexpr int V = kVectorWidth<T>;
  const A decay = A(step.decay);
  for (int64_t sample = blockIdx.y; sample < samples.count; sample += gridDim.y) {
    const Tile<V> tile(samples, sample, int64_t(blockIdx.x) * Tile<V>::kElements);
    const Vector<T, V> adv = tile.template load<T>(step.adv.data);
    const Vector<T, V> grad = tile.template load<T>(step.grad.data);
    const Vector<T, V> image = tile.template load<T>(step.image.data);
    A direction[V];
    const double grad_factor = scales ? scales[sample].grad : 1.0;
    const double along_factor = scales ? scales[sample].direction : 0.0;
    const double shrink_factor = scales ? scales[sample].offset : 1.0;
    if (step.momentum.data) {
      const Vector<T, V> before = tile.template load<T>(step.momentum.data);
      const A grad_scale = A(grad_factor);
      Vector<T, V> after;
#pragma unroll
      for (int i = 0; i < V; ++i) {
        direction[i] = decay * to<A>(before.value[i]) + grad_scale * to<A>(grad.value[i]);
        after.value[i] = from<T>(direction[i]);
      }
      tile.store(step.momentum.data, after);
    } else {
#pragma unroll
      for (int i = 0; i < V; ++i) direction[i] = to<A>(grad.value[i]);
    }
    const A alpha = A(size[sample]), eps = A(budget[sample]);
    const A along = A(along_factor), shrink = A(shrink_factor);
    const bool shrinks = shrink_factor < 1;
    Vector<T, V> out;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const A x = to<A>(image.value[i]), from_adv = to<A>(adv.value[i]);
      A value;
      if (linf) {
        value = clamped(from_adv + sign_times(direction[i], alpha), x - eps, x + eps);
        value = x == x ? value : x;
      } else {
        const A stepped = from_adv + along * direction[i];
        value = shrinks ? x + (stepped - x) * shrink : stepped + (x - x);
      }
      value = clamped(value, range.min, range.max);
      out.value[i] = stored_within<T>(value, x, range, linf ? eps : A(-1));
    }
    tile.store(step.adv.data, out);
  }
}

// --- launches ---------------------------------------------------------------------------------

// Partial sums of every piece, then the samples' factors.
inline int64_t workspace_size(const Batch& batch, int sums) {
  const int64_t factors = 1 + int64_t(sizeof(StepScale) / sizeof(double));
  return batch.samples * (pieces_of(batch.elements) * sums + factors);
}

inline int64_t projection_workspace_size(const Batch& batch) {
  return batch.norm == Norm::kL2 ? workspace_size(batch, 1) : 0;
}

inline int64_t step_workspace_size(const Batch& batch, bool momentum) {
  if (batch.norm == Norm::kL2) return workspace_size(batch, kStepSums);
  return momentum ? workspace_size(batch, 1) : 0;
}

struct Workspace {
  double* partials;
  double* squared;
  double* scales;

  Workspace(const Batch& batch, int sums)
      : partials(batch.workspace),
        squared(partials + batch.samples * pieces_of(batch.elements) * sums),
        scales(squared + batch.samples) {}
};

inline bool is_empty(const Batch& batch) { return batch.samples == 0 || batch.elements == 0; }

// The whole batch is one run of elements where its samples share all numbers.
template <class T>
Samples samples_of(const Batch& batch, bool has_sums, const Field* fields, int count) {
  const bool shared = !has_sums && !batch.alpha.numbers && !batch.eps.numbers;
  Samples samples{shared ? 1 : batch.samples,
                  shared ? batch.samples * batch.elements : batch.elements, true};
  for (int i = 0; i < count; ++i)
    samples.aligned = samples.aligned &&
                      (!fields[i].data ||
                       rows_aligned(fields[i], samples.count, samples.elements, kVectorWidth<T>));
  return samples;
}

template <class T>
void sum_field(const Field& field, FieldSum kind, const Samples& samples, double* partials,
               cudaStream_t stream) {
  ANSM_FAST_LAUNCH((field_sum_kernel<T>), sample_grid(samples, kPieceElements), dim3(kTileThreads),
                   stream, field.data, kind, samples, partials);
}

// The factors of an l2 projection, without the backward's.
template <class T>
ProjectionScale* norm_scales(const Field& noise, const Batch& batch, const Samples& samples,
                             cudaStream_t stream) {
  const Workspace workspace(batch, 1);
  auto* scales = reinterpret_cast<ProjectionScale*>(workspace.scales);
  sum_field<T>(noise, FieldSum::kSquared, samples, workspace.partials, stream);
  combine<1>(workspace.partials, samples.count, pieces_of(samples.elements),
             FinishNorm{batch.eps, workspace.squared, scales}, stream);
  return scales;
}

template <class T>
Range<accumulate_t<T>> range_of(const Batch& batch) {
  using A = accumulate_t<T>;
  return {A(batch.min), A(batch.max)};
}

inline void launch_clamp_project(const Projection& io, const Batch& batch, cudaStream_t stream) {
  if (is_empty(batch)) return;
  for_floating(io.image.type, [&](auto zero) {
    using T = decltype(zero);
    const bool l2 = batch.norm == Norm::kL2;
    const Field fields[] = {io.image, io.perturbation, io.out};
    const Samples samples = samples_of<T>(batch, l2, fields, 3);
    const ProjectionScale* scales =
        l2 ? norm_scales<T>(io.perturbation, batch, samples, stream) : nullptr;
    ANSM_FAST_LAUNCH((project_kernel<T>), sample_grid(samples, Tile<kVectorWidth<T>>::kElements),
                     dim3(kTileThreads), stream, io, samples, batch.eps, range_of<T>(batch),
                     scales);
  });
}

inline void launch_clamp_project_backward(const ProjectionGradient& io, const Batch& batch,
                                          cudaStream_t stream) {
  if (is_empty(batch) || (!io.grad_image.data && !io.grad_perturbation.data)) return;
  for_floating(io.image.type, [&](auto zero) {
    using T = decltype(zero);
    const bool l2 = batch.norm == Norm::kL2;
    const Field fields[] = {io.grad_output, io.image, io.perturbation, io.grad_image,
                            io.grad_perturbation};
    const Samples samples = samples_of<T>(batch, l2, fields, 5);
    ProjectionScale* scales = nullptr;
    if (l2) {
      scales = norm_scales<T>(io.perturbation, batch, samples, stream);
      if (io.grad_perturbation.data) {
        const Workspace workspace(batch, 1);
        ANSM_FAST_LAUNCH((along_sum_kernel<T>), sample_grid(samples, kPieceElements),
                         dim3(kTileThreads), stream, io, samples, range_of<T>(batch), scales,
                         workspace.partials);
        combine<1>(workspace.partials, samples.count, pieces_of(samples.elements),
                   FinishAlong{batch.eps, workspace.squared, scales}, stream);
      }
    }
    ANSM_FAST_LAUNCH((project_backward_kernel<T>),
                     sample_grid(samples, Tile<kVectorWidth<T>>::kElements), dim3(kTileThreads),
                     stream, io, samples, batch.eps, range_of<T>(batch), scales);
  });
}

// A gradient step, or a momentum step where `step.momentum` is given.
inline void launch_step(const Step& step, const Batch& batch, cudaStream_t stream) {
  if (is_empty(batch)) return;
  for_floating(step.adv.type, [&](auto zero) {
    using T = decltype(zero);
    const bool l2 = batch.norm == Norm::kL2, momentum = step.momentum.data != nullptr;
    const Field fields[] = {step.adv, step.momentum, step.grad, step.image};
    const Samples samples = samples_of<T>(batch, l2 || momentum, fields, 4);
    const int64_t pieces = pieces_of(samples.elements);
    StepScale* scales = nullptr;
    if (l2) {
      const Workspace workspace(batch, kStepSums);
      scales = reinterpret_cast<StepScale*>(workspace.scales);
      ANSM_FAST_LAUNCH((step_sums_kernel<T>), sample_grid(samples, kPieceElements),
                       dim3(kTileThreads), stream, step, samples, workspace.partials);
      combine<kStepSums>(workspace.partials, samples.count, pieces,
                         FinishStep<kStepSums>{batch.alpha, batch.eps, batch.norm, momentum,
                                               step.decay, double(batch.elements), scales},
                         stream);
    } else if (momentum) {
      const Workspace workspace(batch, 1);
      scales = reinterpret_cast<StepScale*>(workspace.scales);
      sum_field<T>(step.grad, FieldSum::kAbsolute, samples, workspace.partials, stream);
      combine<1>(workspace.partials, samples.count, pieces,
                 FinishStep<1>{batch.alpha, batch.eps, batch.norm, momentum, step.decay,
                               double(batch.elements), scales},
                 stream);
    }
    ANSM_FAST_LAUNCH((step_kernel<T>), sample_grid(samples, Tile<kVectorWidth<T>>::kElements),
                     dim3(kTileThreads), stream, step, !l2, samples, batch.alpha, batch.eps,
                     range_of<T>(batch), scales);
  });
}

}  // namespace perturbation
}  // namespace gpu
}  // namespace ansm_fast
