"""What the ops of a namespace share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def operator(namespace: str, name: str) -> Callable[..., Any]:
    return getattr(getattr(torch.ops, namespace), name).default  # type: ignore[no-any-return]


def takes_mixed_dtypes(namespace: str, tensor: Tensor) -> bool:
    """Only the CPU kernels read every tensor in a dtype of its own."""
    return namespace == "ansm_fast" and tensor.device.type == "cpu"


def in_one_dtype(namespace: str, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors as the kernels take them: where dtypes differ (under autocast), the widest."""
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    if takes_mixed_dtypes(namespace, tensors[0]):
        return tensors
    return tuple(tensor if tensor.dtype == dtype else tensor.to(dtype) for tensor in tensors)
