"""What the ops of a namespace share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def operator(namespace: str, name: str) -> Callable[..., Any]:
    return getattr(getattr(torch.ops, namespace), name).default  # type: ignore[no-any-return]


def at_once(overload: Callable[..., Any]) -> Callable[..., Any]:
    """An operator for calls below autograd that no compiler sees, without the Python method that
    stands before the dispatcher's function."""
    return getattr(overload, "_op", overload)


def takes_mixed_dtypes(namespace: str, tensor: Tensor) -> bool:
    """Only the CPU kernels read every tensor in a dtype of its own."""
    return namespace == "ansm_fast" and tensor.device.type == "cpu"


def in_one_dtype(namespace: str, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The tensors as the kernels take them: where dtypes differ (under autocast), the widest."""
    if first.dtype == second.dtype or takes_mixed_dtypes(namespace, first):
        return first, second
    dtype = torch.promote_types(first.dtype, second.dtype)
    return first.to(dtype), second.to(dtype)
