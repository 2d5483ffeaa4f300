"""Budgets in 8 bits: rounding that never leaves one, and what a finished image has spent."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ansm_fast.attacks.checks import Budget
from ansm_fast.attacks.counted import CountedLocalizer
from ansm_fast.ops.checks import check_budget, check_choice, check_floating, check_shape

Norm = Literal["linf", "l2"]
NORMS: tuple[str, ...] = get_args(Norm)

# Of a grey level: 4 / 255 * 255 may come out a little below 4.
_SLACK = 1e-4
_BISECTIONS = 24


def radius(eps: Budget, norm: str, values: int) -> Budget:
    """Return the bound of ``||noise||`` over so many values: eps, for "l2" eps * sqrt(values)."""
    return eps * math.sqrt(values) if norm == "l2" else eps


def _per_sample(eps: Budget, like: Tensor) -> Tensor:
    exact = torch.as_tensor(eps, dtype=torch.float64, device=like.device)
    return exact.reshape(-1, *(1,) * (like.dim() - 1)) if exact.dim() else exact


def _mean_square(shift: Tensor) -> Tensor:
    return shift.double().square().flatten(1).mean(1).reshape(-1, *(1,) * (shift.dim() - 1))


def whole_levels(
    shift: Tensor, eps: Budget, norm: str = "linf", offset: Tensor | None = None
) -> Tensor:
    """Round noise (B, ...), in grey levels, to whole ones within the budget.

    For "linf" every value is rounded to the nearest level within floor(255 eps): half a level
    cannot be stored. For "l2" rounding may lengthen a sample's noise; it is then shrunk, before it
    is rounded, to the largest share that fits (found by bisection: the rounded length never falls
    as the share grows).

    Args:
        offset: of each value, what the noise is measured from, in levels; 0 by default. For an
            image between two levels it is its distance from the level it is rounded to.
    """
    bound = _per_sample(eps, shift) * 255
    off = torch.zeros((), dtype=shift.dtype, device=shift.device) if offset is None else offset
    if norm == "linf":
        lowest = (off - bound - _SLACK).ceil().to(shift.dtype)
        highest = (off + bound + _SLACK).floor().to(shift.dtype)
        # Half a level is more than the budget, and none is within it: the nearest one then.
        nearest = (off + torch.zeros_like(shift)).round()
        return torch.where(lowest > highest, nearest, shift.round().clamp(lowest, highest))
    allowed = (bound + _SLACK / 100).square()
    too_long = _mean_square(shift.round() - off) > allowed
    share = torch.ones_like(_mean_square(shift))
    if not too_long.any():
        return shift.round()
    low, high = torch.zeros_like(share), share.clone()
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        part = off + middle.to(shift.dtype) * (shift - off)
        fits = _mean_square(part.round() - off) <= allowed
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    share = torch.where(too_long, low, share).to(shift.dtype)
    return (off + share * (shift - off)).round()


def _levels_of(image: Tensor) -> tuple[Tensor, Tensor]:
    """The image's nearest 8-bit levels, and how far above them it is; both in float64.

    What is no more than the dtype's own rounding of k / 255 is no distance.
    """
    exact = image.double() * 255
    base = exact.round()
    off = exact - base
    slack = max(_SLACK, 255 * torch.finfo(image.dtype).eps / 4)
    return base, torch.where(off.abs() <= slack, torch.zeros_like(off), off)


def round_to_levels(attacked: Tensor, image: Tensor, eps: Budget, norm: str = "linf") -> Tensor:
    """Round ``attacked`` to multiples of 1/255 without leaving the budget around the image.

    Of an image between two levels the budget is about the image as it is. If eps is below half a
    level, no level may be within it (for "l2": the rounding alone may be more than it): such
    values become the image's own, rounded, and leave the budget.

    Args:
        attacked, image: (B, C, H, W) in [0, 1].
        eps: a number or (B,): for "linf" the bound of every value, for "l2" of the root mean
            square of a sample's noise.

    Returns:
        In the dtype of ``attacked``.

    Raises:
        TypeError: no floating-point tensors. ValueError: shapes or devices differ, an unknown norm,
            or eps < 0.
    """
    check_floating("image", image)
    check_floating("attacked", attacked)
    check_shape("attacked", attacked, "image", image)
    check_choice("norm", norm, NORMS)
    check_budget("eps", eps, image)
    base, off = _levels_of(image)
    shift = whole_levels(attacked.double() * 255 - base, eps, norm, off)
    return ((base + shift).clamp(0, 255) / 255).to(attacked.dtype)


@dataclass(frozen=True)
class AttackResult:
    """Attacked images and what they cost.

    Attributes:
        attacked: (B, 3, H, W), multiples of 1/255, in the image's dtype.
        linf, rms: (B,), largest and root mean square noise, measured after rounding against the
            image that was given, in units of the image.
        within_budget: (B,) bool, measured too. It holds unless eps is below half a grey level and
            the image between two levels.
        forwards, backwards: images that the localizer saw forwards and backwards.
        seconds: wall clock, rounding and measuring included.
        stuck: (B,) bool, whether the gradient was zero at every step, though the loss was not flat:
            what is here is the attack's start.
    """

    attacked: Tensor
    linf: Tensor
    rms: Tensor
    within_budget: Tensor
    forwards: int
    backwards: int
    seconds: float
    stuck: Tensor


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
    base, off = _levels_of(image)
    shift = (rounded.double() * 255).round() - base - off
    linf = shift.abs().flatten(1).amax(1) if shift.numel() else shift.new_zeros(len(shift))
    rms = shift.square().flatten(1).mean(1).sqrt()
    spent = linf if norm == "linf" else rms
    within = spent <= eps * 255 + _SLACK
    if not bool(within.all()):
        warnings.warn(
            f"eps {eps * 255:.3g}/255 is less than rounding to 8 bits takes: "
            f"{int((~within).sum())} of {len(within)} images are not multiples of 1/255 and end "
            f"{float(spent.max()):.3g}/255 away; give images of 8 bits or a larger eps",
            stacklevel=4,
        )
    if norm == "linf" and 0 < eps * 255 < 1 - _SLACK and shift.numel() and not bool(shift.any()):
        warnings.warn(
            f"eps {eps * 255:.3g}/255 is less than one grey level, which 8 bits cannot hold: what "
            "the attack gives is the image; give eps of 1/255 or more",
            stacklevel=4,
        )
    stuck = counted.stuck if counted.stuck is not None else torch.zeros_like(within)
    return AttackResult(
        rounded.to(image.dtype),
        linf / 255,
        rms / 255,
        within,
        counted.forwards,
        counted.backwards,
        time.perf_counter() - started,
        stuck,
    )
