"""The bound of a perturbation: one number, or one for each sample."""

from __future__ import annotations

import torch
from torch import Tensor

Budget = float | Tensor


def split(value: Budget) -> tuple[float, Tensor | None]:
    """A number, or the tensor that takes its place."""
    if isinstance(value, Tensor):
        return 0.0, value.detach().to(torch.float64).contiguous()
    return float(value), None
