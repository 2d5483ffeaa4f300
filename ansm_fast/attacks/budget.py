"""Budgets in 8 bits: rounding that never leaves one, and what a finished image has spent."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ansm_fast.attacks.query import Budget, CountedLocalizer

Norm = Literal["linf", "l2"]
NORMS: tuple[str, ...] = get_args(Norm)

# Of a grey level: 4 / 255 * 255 may come out a little below 4.
_SLACK = 1e-4
_BISECTIONS = 24


def radius(eps: Budget, norm: str, values: int) -> Budget:
    """The bound of ``||noise||`` over so many values: eps, for "l2" eps * sqrt(values)."""
    return eps * math.sqrt(values) if norm == "l2" else eps


def _per_sample(eps: Budget, like: Tensor) -> Tensor:
    wide = torch.as_tensor(eps, dtype=torch.float64, device=like.device)
    return wide.reshape(-1, *(1,) * (like.dim() - 1)) if wide.dim() else wide


def _mean_square(shift: Tensor) -> Tensor:
    return shift.double().square().flatten(1).mean(1).reshape(-1, *(1,) * (shift.dim() - 1))


def whole_levels(shift: Tensor, eps: Budget, norm: str = "linf") -> Tensor:
    """Round noise (B, ...), in grey levels, to whole ones within the budget.

    For "linf" every value is rounded to the nearest level within floor(255 eps): half a level
    cannot be stored. For "l2" rounding may lengthen a sample's noise; it is then shrunk, before it
    is rounded, to the largest share that fits (found by bisection: the rounded length never falls
    as the share grows).
    """
    bound = _per_sample(eps, shift) * 255
    if norm == "linf":
        levels = (bound + _SLACK).floor().to(shift.dtype)
        return shift.round().clamp(-levels, levels)
    allowed = (bound + _SLACK / 100).square()
    share = torch.ones_like(_mean_square(shift))
    too_long = _mean_square(shift.round()) > allowed
    if not too_long.any():
        return shift.round()
    low, high = torch.zeros_like(share), share.clone()
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        fits = _mean_square((middle.to(shift.dtype) * shift).round()) <= allowed
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return (torch.where(too_long, low, share).to(shift.dtype) * shift).round()


def round_to_levels(attacked: Tensor, image: Tensor, eps: Budget, norm: str = "linf") -> Tensor:
    """Round ``attacked`` to multiples of 1/255 without leaving the budget around the 8-bit image.

    Args:
        attacked, image: (B, C, H, W) in [0, 1]; the 8-bit image is ``image`` rounded.
        eps: a number or (B,): for "linf" the bound of every value, for "l2" of the root mean
            square of a sample's noise.
    """
    base = torch.round(image * 255)
    return (base + whole_levels(attacked * 255 - base, eps, norm)).clamp(0, 255) / 255


@dataclass(frozen=True)
class AttackResult:
    """Attacked images and what they cost.

    Attributes:
        attacked: (B, 3, H, W), multiples of 1/255.
        linf, rms: (B,), largest and root mean square noise, measured after rounding against the
            8-bit image, in units of the image.
        within_budget: (B,) bool, measured too.
        forwards, backwards: images that the localizer saw forwards and backwards.
        seconds: wall clock, rounding and measuring included.
    """

    attacked: Tensor
    linf: Tensor
    rms: Tensor
    within_budget: Tensor
    forwards: int
    backwards: int
    seconds: float


def finish(
    attacked: Tensor,
    image: Tensor,
    eps: float,
    norm: str,
    counted: CountedLocalizer,
    started: float,
) -> AttackResult:
    """Round, measure, and report; ``started`` is a reading of ``time.perf_counter``."""
    rounded = round_to_levels(attacked, image, eps, norm)
    shift = (rounded.double() * 255).round() - (image.double() * 255).round()
    linf = shift.abs().flatten(1).amax(1) if shift.numel() else shift.new_zeros(len(shift))
    rms = shift.square().flatten(1).mean(1).sqrt()
    spent = linf if norm == "linf" else rms
    return AttackResult(
        rounded,
        linf / 255,
        rms / 255,
        spent <= eps * 255 + _SLACK,
        counted.forwards,
        counted.backwards,
        time.perf_counter() - started,
    )
