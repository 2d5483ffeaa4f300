"""clamp_project and the attack steps in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from ansm_fast.ops.budget import Budget
from ansm_fast.ops.dtypes import accumulation_dtype


def per_sample(value: Budget, like: Tensor) -> Tensor:
    """A scalar or a (B,) tensor, shaped to broadcast against ``like``."""
    value = torch.as_tensor(value, dtype=accumulation_dtype(like.dtype), device=like.device)
    return value.reshape(-1, *(1,) * (like.dim() - 1)) if value.dim() else value


def _norm(delta: Tensor) -> Tensor:
    # The square of a float32 may be more or less than float32 holds.
    length = torch.linalg.vector_norm(delta.flatten(1), dim=1, dtype=torch.float64).to(delta.dtype)
    return length.reshape(-1, *(1,) * (delta.dim() - 1))


def project(delta: Tensor, eps: Budget, norm: str) -> Tensor:
    """The nearest point of the eps-ball: clipped (linf) or scaled per sample (l2)."""
    bound = per_sample(eps, delta)
    if norm == "linf":
        return torch.clamp(delta, -bound, bound)
    length = _norm(delta)
    scale = torch.where(length > bound, bound / length, torch.ones_like(length))
    return delta * scale


def clamp_project(
    image: Tensor,
    perturbation: Tensor,
    eps: Budget,
    *,
    norm: str = "linf",
    min: float = 0.0,
    max: float = 1.0,
) -> Tensor:
    """clamp(image + project(perturbation, eps), min, max); see ansm_fast.ops."""
    accumulation = accumulation_dtype(image.dtype)
    delta = project(perturbation.to(accumulation), eps, norm)
    return (image.to(accumulation) + delta).clamp(min, max).to(image.dtype)


def _step_(
    adv: Tensor,
    direction: Tensor,
    image: Tensor,
    alpha: Budget,
    eps: Budget,
    norm: str,
    min: float,
    max: float,
) -> Tensor:
    accumulation = accumulation_dtype(adv.dtype)
    origin, ascent = image.to(accumulation), direction.to(accumulation)
    if norm == "linf":
        ascent = ascent.sign()
    else:
        length = _norm(ascent)
        ascent = torch.where(length == 0, torch.zeros_like(ascent), ascent / length)
    moved = adv.to(accumulation) + per_sample(alpha, adv) * ascent
    return adv.copy_((origin + project(moved - origin, eps, norm)).clamp(min, max))


@torch.no_grad()
def pgd_step_(
    adv: Tensor,
    grad: Tensor,
    image: Tensor,
    alpha: Budget,
    eps: Budget,
    *,
    norm: str = "linf",
    min: float = 0.0,
    max: float = 1.0,
) -> Tensor:
    """One projected ascent step in place; see ansm_fast.ops."""
    return _step_(adv, grad, image, alpha, eps, norm, min, max)


@torch.no_grad()
def momentum_step_(
    adv: Tensor,
    momentum: Tensor,
    grad: Tensor,
    image: Tensor,
    alpha: Budget,
    eps: Budget,
    *,
    decay: float = 1.0,
    norm: str = "linf",
    min: float = 0.0,
    max: float = 1.0,
) -> Tensor:
    """Momentum accumulation and ascent step in place; see ansm_fast.ops."""
    accumulation = accumulation_dtype(adv.dtype)
    ascent = grad.to(accumulation)
    mean = ascent.abs().flatten(1).mean(1).reshape(-1, *(1,) * (grad.dim() - 1))
    # A sample whose gradient is zero everywhere adds nothing instead of NaN.
    normalized = torch.where(mean == 0, torch.zeros_like(ascent), ascent / mean)
    momentum.copy_(decay * momentum.to(accumulation) + normalized)
    return _step_(adv, momentum, image, alpha, eps, norm, min, max)
