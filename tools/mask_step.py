"""A training step of a student's masks under autocast and GradScaler, and its weight gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ansm_fast.ops import bce_dice_loss, dual_mask_loss
from ansm_fast.ops.mask_checks import REDUCTIONS as REDUCTIONS

# float16 needs a scale, of which GradScaler's first one is 2^16; bfloat16 has float32's range.
PRECISIONS = [
    (torch.float16, 1.0),
    (torch.float16, 256.0),
    (torch.float16, 65536.0),
    (torch.bfloat16, 1.0),
]
OPS = ("bce_dice_loss", "dual_mask_loss")
SHAPE = (2, 1, 24, 20)


def eager(logits: Tensor, mask: Tensor, reduction: str) -> Tensor:
    """BCE + Dice as PyTorch's users write it for autocast: in float32."""
    z, y = logits.float().flatten(1), mask.float().flatten(1)
    p = z.sigmoid()
    dice = 1 - (2 * (p * y).sum(1) + 1) / (p.sum(1) + y.sum(1) + 1)
    losses = F.binary_cross_entropy_with_logits(z, y, reduction="none").mean(1) + dice
    return losses if reduction == "none" else getattr(losses, reduction)()


def weight_gradient(
    op: str, backend: str, reduction: str, dtype: torch.dtype | None, scale: float = 1.0
) -> Tensor:
    """What the optimizer is given; ``backend`` "eager" for plain PyTorch, no dtype for float32."""
    generator = torch.Generator().manual_seed(3)
    image, other, target = (torch.randn(2, 3, 24, 20, generator=generator) for _ in range(3))
    mask = target[:, :1] > 0.5
    student = torch.nn.Conv2d(3, 1, 3, padding=1)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    options: dict[str, Any] = {"reduction": reduction}
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        logits = [student(image)] if op == "bce_dice_loss" else [student(image), student(other)]
        if backend == "eager":
            loss = sum((eager(z, mask, reduction) for z in logits), torch.zeros(()))
        elif op == "bce_dice_loss":
            loss = bce_dice_loss(logits[0], mask, backend=backend, **options)
        else:
            loss = dual_mask_loss(*logits, mask, backend=backend, **options)
        assert loss.dtype == torch.float32
        loss = (loss * torch.tensor([1.0, 0.5])).sum() if reduction == "none" else loss
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=dtype == torch.float16)
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    gradient = student.weight.grad
    assert gradient is not None
    return gradient


def error_and_eagers(
    op: str, backend: str, reduction: str, dtype: torch.dtype, scale: float
) -> tuple[float, float]:
    """Of the weight gradient, relative to float32's largest one."""
    true = weight_gradient(op, "eager", reduction, None)
    found, theirs = (
        weight_gradient(op, name, reduction, dtype, scale) for name in (backend, "eager")
    )
    size = float(true.abs().max())
    return float((found - true).abs().max()) / size, float((theirs - true).abs().max()) / size
