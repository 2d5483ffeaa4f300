"""Weights that float16 holds: a checkpoint half as large."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def round_weights(module: nn.Module) -> None:
    """Round what multiplies features to float16; its checkpoint is then half as large."""
    for weight in module.parameters():
        if weight.dim() > 1:
            weight.copy_(weight.half())
