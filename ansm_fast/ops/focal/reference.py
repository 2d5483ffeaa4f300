"""focal_loss in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ansm_fast.ops.dtypes import accumulation_dtype
from ansm_fast.ops.mask_values import mask_values, pos_weight_value


def focal_loss(
    logits: Tensor,
    mask: Tensor,
    *,
    alpha: float,
    gamma: float,
    pos_weight: Tensor | float | None,
    ignore_index: int | None,
    reduction: str,
) -> Tensor:
    """The loss in the accumulation dtype; see ansm_fast.ops. A negative alpha weighs nothing."""
    dtype = accumulation_dtype(logits.dtype)
    valid = torch.ones_like(mask, dtype=torch.bool)
    if ignore_index is not None:
        valid = mask.to(dtype) != ignore_index
    # Chosen before the arithmetic: what is ignored may be NaN, whose gradient is NaN times 0.
    z = torch.where(valid, logits.to(dtype), 0.0)
    y = torch.where(valid, mask_values(mask, dtype), 0.0)
    weight = pos_weight_value(pos_weight, z)
    loss = F.binary_cross_entropy_with_logits(z, y, pos_weight=weight, reduction="none")
    if gamma != 0:
        # log(1 - p_t) = log(p (1 - y) + (1 - p) y), finite where 1 - p_t is none: the power of 0
        # has no derivative for gamma < 1.
        wrong = F.logsigmoid(z) + torch.log1p(-y)
        missed = F.logsigmoid(-z) + torch.log(y)
        loss = loss * torch.exp(gamma * torch.logaddexp(wrong, missed))
    if alpha >= 0:
        loss = loss * (alpha * y + (1 - alpha) * (1 - y))
    loss = torch.where(valid, loss, 0.0)
    if reduction == "none":
        return loss
    return loss.sum() / valid.sum().clamp(min=1) if reduction == "mean" else loss.sum()
