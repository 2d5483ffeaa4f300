"""dual_mask_loss and bce_dice_loss in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ansm_fast.ops.dtypes import accumulation_dtype
from ansm_fast.ops.mask_values import mask_values, pos_weight_value

NOTHING = 1e-28  # a Dice denominator that is no more has neither a mask nor a prediction in it


def branch_terms(
    logits: Tensor,
    mask: Tensor,
    *,
    bce_target: Tensor | None,
    pos_weight: Tensor | float | None,
    smooth: float,
    ignore_index: int | None,
) -> tuple[Tensor, Tensor]:
    """Per-sample BCE (mean over valid pixels) and Dice loss of one branch, each (B,)."""
    accumulation = accumulation_dtype(logits.dtype)
    labels = mask.to(accumulation).flatten(1)
    valid = torch.ones_like(labels, dtype=torch.bool)
    if ignore_index is not None:
        valid = labels != ignore_index
    # Chosen before the arithmetic: what is ignored may be NaN, whose gradient is NaN times 0.
    z = torch.where(valid, logits.to(accumulation).flatten(1), 0.0)
    y = torch.where(valid, mask_values(mask, accumulation).flatten(1), 0.0)
    t = y
    if bce_target is not None:
        t = torch.where(valid, mask_values(bce_target, accumulation).flatten(1), 0.0)
    weight = pos_weight_value(pos_weight, z)
    count = valid.sum(1)

    pixel = F.binary_cross_entropy_with_logits(z, t, pos_weight=weight, reduction="none")
    bce = torch.where(valid, pixel, 0.0).sum(1) / count.clamp(min=1)

    p = torch.where(valid, torch.sigmoid(z), 0.0)
    denominator = p.sum(1) + y.sum(1) + smooth
    empty = denominator <= NOTHING
    dice = 1 - (2 * (p * y).sum(1) + smooth) / torch.where(empty, 1.0, denominator)
    dice = torch.where(empty, 0.0, dice)
    dice = dice - dice.detach().clamp(max=0)  # rounding must not make it negative
    if mask.is_floating_point():
        sound = torch.where(y.isnan().any(1), torch.nan, 1.0).to(accumulation)
        bce, dice = bce * sound, dice * sound
    return bce, dice


def weighted_sum(factors: tuple[float, ...], terms: tuple[Tensor, ...], *leaves: Tensor) -> Tensor:
    """The weighted sum of terms, those of weight 0 left out: 0 * NaN would be NaN.

    It depends on every leaf all the same, so that each has a gradient.
    """
    total = torch.zeros_like(terms[0])
    for leaf in leaves:
        total = total + leaf[:0].to(total.dtype).sum()
    for factor, term in zip(factors, terms, strict=True):
        if factor != 0:
            total = total + factor * term
    return total


def _reduce(per_sample: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return per_sample
    return per_sample.sum() if reduction == "sum" else per_sample.mean()


def bce_dice_loss(
    logits: Tensor,
    mask: Tensor,
    *,
    bce_weight: float = 1.0,
    dice_weight: float = 1.0,
    bce_target: Tensor | None = None,
    pos_weight: Tensor | float | None = None,
    smooth: float = 1.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> tuple[Tensor, Tensor]:
    """Loss and its components [bce, dice] (detached); see ansm_fast.ops."""
    bce, dice = branch_terms(
        logits,
        mask,
        bce_target=bce_target,
        pos_weight=pos_weight,
        smooth=smooth,
        ignore_index=ignore_index,
    )
    loss = _reduce(weighted_sum((bce_weight, dice_weight), (bce, dice), logits), reduction)
    components = torch.stack([_reduce(bce, reduction), _reduce(dice, reduction)]).detach()
    return loss, components


def dual_mask_loss(
    logits_adv: Tensor,
    logits_orig: Tensor,
    mask: Tensor,
    *,
    mask_orig: Tensor | None = None,
    weight_adv: float = 1.0,
    weight_orig: float = 1.0,
    bce_weight: float = 1.0,
    dice_weight: float = 1.0,
    bce_target: Tensor | None = None,
    bce_target_orig: Tensor | None = None,
    pos_weight: Tensor | float | None = None,
    smooth: float = 1.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> tuple[Tensor, Tensor]:
    """Loss and components [bce_adv, dice_adv, bce_orig, dice_orig]; see ansm_fast.ops."""
    common = {
        "bce_weight": bce_weight,
        "dice_weight": dice_weight,
        "pos_weight": pos_weight,
        "smooth": smooth,
        "ignore_index": ignore_index,
        "reduction": reduction,
    }
    adv, parts_adv = bce_dice_loss(logits_adv, mask, bce_target=bce_target, **common)  # type: ignore[arg-type]
    orig, parts_orig = bce_dice_loss(
        logits_orig,
        mask if mask_orig is None else mask_orig,
        bce_target=bce_target_orig,
        **common,  # type: ignore[arg-type]
    )
    loss = weighted_sum((weight_adv, weight_orig), (adv, orig), logits_adv, logits_orig)
    return loss, torch.cat([parts_adv, parts_orig])
