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

inline Tensor empty_channels_last(const Tensor& like, std::optional<ScalarType> type = {}) {
  std::vector<int64_t> sizes{like.size(0)};
  for (int64_t d = 2; d < like.dim(); ++d) sizes.push_back(like.size(d));
  sizes.push_back(like.size(1));
  Tensor result = torch::stable::new_empty(like, sizes, type);
  for (int64_t d = like.dim() - 1; d > 1; --d) result = torch::stable::transpose(result, d, d - 1);
  return result;
}

// The tensor itself where it has the order already, else a copy.
inline Tensor in_order(const Tensor& tensor, Order order) {
  if (order == Order::kPlanar) return torch::stable::contiguous(tensor);
  if (is_channels_last(tensor)) return tensor;
  Tensor copy = empty_channels_last(tensor);
  return torch::stable::copy_(copy, tensor);
}

// A place for results with the shape, the order and, unless `type` is another, the dtype of a
// tensor that came from `in_order`.
inline Tensor place_for(const Tensor& like, Order order, std::optional<ScalarType> type = {}) {
  if (order == Order::kChannelsLast) return empty_channels_last(like, type);
  std::vector<int64_t> sizes;
  for (int64_t d = 0; d < like.dim(); ++d) sizes.push_back(like.size(d));
  return type ? torch::stable::new_empty(like, sizes, type) : torch::stable::empty_like(like);
}

inline Tensor nothing(const Tensor& like) {
  return torch::stable::new_empty(like, std::vector<int64_t>{0});
}

}  // namespace ansm_fast
