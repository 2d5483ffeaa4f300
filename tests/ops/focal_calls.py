"""What the tests of the focal loss share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops import focal_loss

SHAPE = (2, 1, 6, 7)
GAMMAS = (0.0, 0.5, 1.0, 2.0, 3.5)


def with_gradient(logits: Tensor, mask: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    logits = logits.detach().requires_grad_()
    loss = focal_loss(logits, mask, **options)
    weight = torch.arange(1, loss.numel() + 1, dtype=loss.dtype).reshape(loss.shape)
    return loss.detach(), torch.autograd.grad((loss * weight).sum(), logits)[0]


def drawn(shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, Tensor]:
    """Logits and a mask."""
    return torch.randn(shape) * 3, torch.rand(shape) > 0.5
