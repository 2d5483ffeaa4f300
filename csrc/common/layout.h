// The order in which a tensor's elements lie in memory, and tensors of one order for a kernel.
#pragma once

#include "common/tensor.h"

namespace ansm_fast {

enum class Order { kPlanar, kChannelsLast };

// Whether memory holds (B, *space, C) without gaps, for any number of dimensions of space.
inline bool is_channels_last(const Tensor& tensor) {
  const Extents sizes = tensor.sizes(), strides = tensor.strides();
  if (sizes.size() < 3) return false;
  int64_t expected = 1;
  const auto follows = [&](size_t d) {
    if (sizes[d] != 1 && strides[d] != expected) return false;
    expected *= sizes[d];
    return true;
  };
  if (!follows(1)) return false;
  for (size_t d = sizes.size() - 1; d > 1; --d)
    if (!follows(d)) return false;
  return follows(0);
}

// Of a tensor with gaps, the order that its copy will have.
inline Order order_of(const Tensor& tensor) {
  return !tensor.is_contiguous() && is_channels_last(tensor) ? Order::kChannelsLast
                                                             : Order::kPlanar;
}

inline Tensor empty_channels_last(const Tensor& like, ScalarType type) {
  const Extents sizes = like.sizes();
  Few<int64_t> strides(sizes.size());
  int64_t step = 1;
  const auto next = [&](size_t d) {
    strides[d] = step;
    step *= sizes[d] > 0 ? sizes[d] : 1;
  };
  next(1);
  for (size_t d = sizes.size() - 1; d > 1; --d) next(d);
  next(0);
  return new_tensor(like, sizes, Extents(strides.data(), strides.size()), type);
}

// The tensor itself where it has the order already, else a copy.
inline Tensor in_order(const Tensor& tensor, Order order) {
  if (order == Order::kPlanar) return without_gaps(tensor);
  if (is_channels_last(tensor)) return tensor;
  Tensor copy = empty_channels_last(tensor, tensor.scalar_type());
  return torch::stable::copy_(copy, tensor);
}

// A place for results with the shape, the order and, unless `type` is another, the dtype of a
// tensor that came from `in_order`.
inline Tensor place_for(const Tensor& like, Order order, std::optional<ScalarType> type = {}) {
  const ScalarType dtype = type.value_or(like.scalar_type());
  if (order == Order::kChannelsLast) return empty_channels_last(like, dtype);
  return new_tensor(like, like.sizes(), dtype);
}

inline Tensor nothing(const Tensor& like) {
  const int64_t none = 0;
  return new_tensor(like, none, like.scalar_type());
}

}  // namespace ansm_fast
