"""What the references of losses against a mask make of their masks and of ``pos_weight``."""

from __future__ import annotations

import torch
from torch import Tensor

from ansm_fast.ops.mask_checks import SLACK


def mask_values(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask or target in [0, 1], with NaN for what is no probability."""
    if mask.dtype in (torch.bool, torch.uint8):
        return (mask != 0).to(dtype)
    values = mask.to(dtype)
    close = (values >= -SLACK) & (values <= 1 + SLACK)
    return torch.where(close, values.clamp(0, 1), torch.nan)


def pos_weight_value(pos_weight: Tensor | float | None, like: Tensor) -> Tensor | None:
    """A scalar on the device and in the dtype of ``like``; NaN for a negative one, which would make
    of the loss what training takes for a gain."""
    if pos_weight is None:
        return None
    weight = torch.as_tensor(pos_weight, dtype=like.dtype).to(like.device).reshape(())
    return torch.where(weight >= 0, weight, torch.nan)
