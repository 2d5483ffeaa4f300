// The order in which a tensor's elements lie in memory, and tensors of one order for a kernel.
#pragma once

#include <vector>

#include "common/tensor.h"

namespace ansm_fast {

enum class Order { kPlanar, kChannelsLast };

// Whether memory holds (B, *space, C) without gaps, for any number of dimensions of space.
inline bool is_channels_last(const Tensor& tensor) {
  if (tensor.dim() < 3) return false;
  int64_t expected = 1;
  const auto follows = [&](int64_t dimension) {
    const int64_t size = tensor.size(dimension);
    if (size != 1 && tensor.stride(dimension) != expected) return false;
    expected *= size;
    return true;
  };
  if (!follows(1)) return false;
  for (int64_t dimension = tensor.dim() - 1; dimension > 1; --dimension)
    if (!follows(dimension)) return false;
  return follows(0);
}

// Of a tensor with gaps, the order that its copy will have.
inline Order order_of(const Tensor& tensor) {
  return !tensor.is_contiguous() && is_channels_last(tensor) ? Order::kChannelsLast
                                                             : Order::kPlanar;
}

inline std::vector<int64_t> sizes_of(const Tensor& tensor) {
  std::vector<int64_t> sizes;
  for (int64_t d = 0; d < tensor.dim(); ++d) sizes.push_back(tensor.size(d));
  return sizes;
}

inline Tensor empty_channels_last(const Tensor& like, ScalarType type) {
  const std::vector<int64_t> sizes = sizes_of(like);
  std::vector<int64_t> strides(sizes.size());
  int64_t step = 1;
  const auto next = [&](size_t d) {
    strides[d] = step;
    step *= sizes[d] > 0 ? sizes[d] : 1;
  };
  next(1);
  for (size_t d = sizes.size() - 1; d > 1; --d) next(d);
  next(0);
  return new_tensor(like, sizes, strides, type);
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
  return new_tensor(like, sizes_of(like), dtype);
}

inline Tensor nothing(const Tensor& like) { return new_tensor(like, {0}, like.scalar_type()); }

}  // namespace ansm_fast
