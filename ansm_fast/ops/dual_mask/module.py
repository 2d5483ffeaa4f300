"""bce_dice_loss and dual_mask_loss as modules: ``BCEDice`` and ``DualMask``."""

from __future__ import annotations

from torch import Tensor, nn

from ansm_fast.ops.checks import check_finite
from ansm_fast.ops.dual_mask import bce_dice_loss, dual_mask_loss
from ansm_fast.ops.mask_checks import check_options


class BCEDice(nn.Module):
    """Binary cross-entropy plus Dice; ``ops.bce_dice_loss``.

    Args:
        bce_weight, dice_weight, pos_weight, smooth, ignore_index, reduction: as there; a tensor
            ``pos_weight`` becomes a buffer and moves with the module.

    Raises:
        ValueError: an option out of range. TypeError: one of a wrong type.
    """

    pos_weight: Tensor | float | None

    def __init__(
        self,
        bce_weight: float = 1.0,
        dice_weight: float = 1.0,
        pos_weight: float | Tensor | None = None,
        smooth: float = 1.0,
        ignore_index: int | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        options = {
            "bce_weight": bce_weight,
            "dice_weight": dice_weight,
            "pos_weight": pos_weight,
            "smooth": smooth,
            "ignore_index": ignore_index,
            "reduction": reduction,
        }
        check_options(options)
        if isinstance(pos_weight, Tensor):
            self.register_buffer("pos_weight", pos_weight)
        else:
            self.pos_weight = pos_weight
        self.bce_weight, self.dice_weight = bce_weight, dice_weight
        self.smooth, self.ignore_index, self.reduction = smooth, ignore_index, reduction

    def _options(self) -> dict:
        return {
            "bce_weight": self.bce_weight,
            "dice_weight": self.dice_weight,
            "pos_weight": self.pos_weight,
            "smooth": self.smooth,
            "ignore_index": self.ignore_index,
            "reduction": self.reduction,
        }

    def forward(self, logits: Tensor, mask: Tensor, bce_target: Tensor | None = None) -> Tensor:
        return bce_dice_loss(logits, mask, bce_target=bce_target, **self._options())

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._options().items())


class DualMask(BCEDice):
    """The dual-mask constraint of MgR (arXiv 2506.12871); ``ops.dual_mask_loss``.

    Args:
        weight_adv, weight_orig: weights of the branch of the attacked and of the original image.
        bce_weight, dice_weight, pos_weight, smooth, ignore_index, reduction: as in ``BCEDice``.
    """

    def __init__(
        self,
        weight_adv: float = 1.0,
        weight_orig: float = 1.0,
        bce_weight: float = 1.0,
        dice_weight: float = 1.0,
        pos_weight: float | Tensor | None = None,
        smooth: float = 1.0,
        ignore_index: int | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(bce_weight, dice_weight, pos_weight, smooth, ignore_index, reduction)
        self.weight_adv = check_finite("weight_adv", weight_adv)
        self.weight_orig = check_finite("weight_orig", weight_orig)

    def _options(self) -> dict:
        weights = {"weight_adv": self.weight_adv, "weight_orig": self.weight_orig}
        return weights | super()._options()

    def forward(  # type: ignore[override]
        self,
        logits_adv: Tensor,
        logits_orig: Tensor,
        mask: Tensor,
        mask_orig: Tensor | None = None,
        bce_target: Tensor | None = None,
        bce_target_orig: Tensor | None = None,
    ) -> Tensor:
        return dual_mask_loss(
            logits_adv,
            logits_orig,
            mask,
            mask_orig=mask_orig,
            bce_target=bce_target,
            bce_target_orig=bce_target_orig,
            **self._options(),
        )
