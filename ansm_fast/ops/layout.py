"""The order in which results lie in memory, as csrc/common/layout.h decides it."""

from __future__ import annotations

import torch
from torch import Tensor


def is_channels_last(tensor: Tensor) -> bool:
    """Whether memory holds (B, *space, C) without gaps, for any number of dimensions of space."""
    return tensor.dim() >= 3 and tensor.movedim(1, -1).is_contiguous()


def empty_in_order(like: Tensor, order: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """An empty tensor with the shape of ``like``, and its dtype unless another is given, in the
    order of ``order``."""
    if not order.is_contiguous() and is_channels_last(order):
        last = like.new_empty((like.shape[0], *like.shape[2:], like.shape[1]), dtype=dtype)
        return last.movedim(-1, 1)
    return torch.empty_like(like, dtype=dtype, memory_format=torch.contiguous_format)
