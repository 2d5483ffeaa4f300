"""Layouts, dtypes and error measures that the op tests share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ansm_fast.ops import library

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
HALF = (torch.float16, torch.bfloat16)
BACKENDS = ("cpu", "reference")


@pytest.fixture(autouse=True)
def native_library() -> None:
    if library.PATH is None:
        pytest.skip(f"no compiled library: {library.WHY_NOT}")


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same values as contiguous, channels-last, sliced (with gaps) or misaligned memory."""
    if layout == "channels_last":
        return tensor.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "gaps":
        wide = torch.zeros(*tensor.shape[:-1], tensor.shape[-1] + 3, dtype=tensor.dtype)
        wide[..., 1 : tensor.shape[-1] + 1] = tensor
        return wide[..., 1 : tensor.shape[-1] + 1]
    if layout == "misaligned":
        flat = torch.zeros(tensor.numel() + 1, dtype=tensor.dtype)
        flat[1:] = tensor.reshape(-1)
        return flat[1:].view(tensor.shape)
    return tensor.contiguous()


LAYOUTS = ("contiguous", "channels_last", "gaps", "misaligned")


def error(value: Tensor, truth: Tensor) -> float:
    """Largest error relative to the largest true value."""
    value, truth = value.detach(), truth.detach()
    scale = float(truth.abs().max()) or 1.0
    return float((value.double() - truth.double()).abs().max()) / scale
