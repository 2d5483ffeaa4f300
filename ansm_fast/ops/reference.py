"""The ops in plain PyTorch: the truth of the tests, the peer of the benchmarks, the fallback.

Written for clarity. Losses accumulate in float32 (float64 for float64 input), as the kernels do,
and return that accumulation dtype; the public ops bring it to the input's. The losses of masks are
in ``reference_masks``.
"""

from __future__ import annotations

import torch
from torch import Tensor

Budget = float | Tensor


def accumulation_dtype(*dtypes: torch.dtype) -> torch.dtype:
    return torch.float64 if torch.float64 in dtypes else torch.float32


# --- channelwise_kl ---------------------------------------------------------------------------


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
    wide = accumulation_dtype(input.dtype, target.dtype)
    batch, channels = input.shape[:2]
    log_p = (input.to(wide) / temperature).flatten(2).log_softmax(2)
    log_q = (target.to(wide) / temperature).flatten(2).log_softmax(2)
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


# --- perturbation -----------------------------------------------------------------------------


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
    wide = accumulation_dtype(image.dtype)
    delta = project(perturbation.to(wide), eps, norm)
    return (image.to(wide) + delta).clamp(min, max).to(image.dtype)


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
    wide = accumulation_dtype(adv.dtype)
    origin, ascent = image.to(wide), direction.to(wide)
    if norm == "linf":
        ascent = ascent.sign()
    else:
        length = _norm(ascent)
        ascent = torch.where(length == 0, torch.zeros_like(ascent), ascent / length)
    moved = adv.to(wide) + per_sample(alpha, adv) * ascent
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
    wide = accumulation_dtype(adv.dtype)
    ascent = grad.to(wide)
    mean = ascent.abs().flatten(1).mean(1).reshape(-1, *(1,) * (grad.dim() - 1))
    # A sample whose gradient is zero everywhere adds nothing instead of NaN.
    normalized = torch.where(mean == 0, torch.zeros_like(ascent), ascent / mean)
    momentum.copy_(decay * momentum.to(wide) + normalized)
    return _step_(adv, momentum, image, alpha, eps, norm, min, max)


# --- image_pack -------------------------------------------------------------------------------


def image_pack(
    images: Tensor,
    *,
    bgr: bool = True,
    memory_format: torch.memory_format = torch.contiguous_format,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """uint8 (N, H, W, 3) to floating (N, 3, H, W) RGB in [0, 1]; see ansm_fast.ops."""
    planar = (images.flip(-1) if bgr else images).permute(0, 3, 1, 2)
    wide = planar.to(accumulation_dtype(dtype)) / 255
    return wide.to(dtype).contiguous(memory_format=memory_format)


def image_unpack(
    image: Tensor,
    perturbation: Tensor | None = None,
    eps: Budget | None = None,
    *,
    bgr: bool = True,
) -> Tensor:
    """Floating (N, 3, H, W) RGB to uint8 (N, H, W, 3), after adding; see ansm_fast.ops."""
    origin = image.to(accumulation_dtype(image.dtype))
    result = origin
    if perturbation is not None:
        delta = perturbation.to(origin.dtype)
        result = origin + (delta if eps is None else project(delta, eps, "linf"))
    levels = _levels(result)
    if perturbation is not None and eps is not None:
        # Rounding must not spend what is left of a budget between two levels, hence whole levels.
        # The slack forgives an eps that was itself rounded to a half type.
        whole = (per_sample(eps, origin).double() * 255 * (1 + 1 / 1024)).floor().to(origin.dtype)
        start = _levels(origin)
        levels = torch.minimum(torch.maximum(levels, start - whole), start + whole)
    levels = levels.to(torch.uint8).permute(0, 2, 3, 1)
    return (levels.flip(-1) if bgr else levels).contiguous()


def _levels(image: Tensor) -> Tensor:
    return (image.nan_to_num(nan=0.0).clamp(0, 1) * 255).round()
