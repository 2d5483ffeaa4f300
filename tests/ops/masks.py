"""Logits and masks that the tests of the losses of masks share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ansm_fast.ops import bce_dice_loss

from .conftest import BACKENDS

INFINITY, NAN = float("inf"), float("nan")
SHAPE = (2, 1, 6, 7)

each_backend = pytest.mark.parametrize("backend", BACKENDS)


def drawn() -> tuple[Tensor, Tensor]:
    """Logits and a mask."""
    return torch.randn(SHAPE), torch.rand(SHAPE) > 0.5


def with_gradient(logits: Tensor, mask: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    logits = logits.detach().requires_grad_()
    loss = bce_dice_loss(logits, mask, **options)
    weight = torch.arange(1, loss.numel() + 1, dtype=loss.dtype).reshape(loss.shape)
    return loss.detach(), torch.autograd.grad((loss * weight).sum(), logits)[0]


def same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=3e-5, atol=2e-6)
