"""BCE + Dice of one or two branches against a mask."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ansm_fast.ops import backends, reference


def bce_dice_loss(
    logits: Tensor, mask: Tensor, *, return_components: bool = False,
    backend: str | None = None, **options: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    backends.choose("bce_dice_loss", (logits, mask), backend)
    loss, components = reference.bce_dice_loss(logits, mask, **options)
    return (loss, components) if return_components else loss


def dual_mask_loss(
    logits_adv: Tensor, logits_orig: Tensor, mask: Tensor, *, return_components: bool = False,
    backend: str | None = None, **options: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    backends.choose("dual_mask_loss", (logits_adv, logits_orig, mask), backend)
    loss, components = reference.dual_mask_loss(logits_adv, logits_orig, mask, **options)
    return (loss, components) if return_components else loss
