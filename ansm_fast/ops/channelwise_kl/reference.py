"""channelwise_kl in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from ansm_fast.ops.dtypes import accumulation_dtype


def channelwise_kl(
    input: Tensor,
    target: Tensor,
    *,
    temperature: float = 1.0,
    alpha: float = 0.0,
    direction: str = "input_target",
    reduction: str = "mean",
) -> Tensor:
    """KL divergence between the spatial softmaxes of each channel; see ansm_fast.ops."""
    accumulation = accumulation_dtype(input.dtype, target.dtype)
    batch, channels = input.shape[:2]
    log_p = (input.to(accumulation) / temperature).flatten(2).log_softmax(2)
    log_q = (target.to(accumulation) / temperature).flatten(2).log_softmax(2)
    if direction == "target_input":
        log_p, log_q = log_q, log_p
    p = log_p.exp()
    if alpha > 0:
        terms = p * (torch.log(p + alpha) - torch.log(log_q.exp() + alpha))
    else:
        # 0 * log 0 is 0, also where both logarithms are -inf.
        terms = torch.where(log_p == -torch.inf, 0.0, p * (log_p - log_q))
    rows = terms.sum(2)
    if reduction == "none":
        return rows
    pixels = input[0, 0].numel() if batch and channels else 0
    divisor = {
        "sum": 1,
        "batchmean": batch,
        "channelmean": batch * channels,
        "mean": batch * channels * pixels,
    }[reduction]
    return rows.sum() / divisor
