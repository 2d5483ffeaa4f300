"""focal_loss as a module: ``Focal``."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ansm_fast.ops.focal import check_focal_options, focal_loss


class Focal(nn.Module):
    """Focal loss of logits against a binary mask; ``ops.focal_loss``.

    Args:
        alpha, gamma, pos_weight, ignore_index, reduction: as there; a tensor ``pos_weight`` becomes
            a buffer and moves with the module.

    Raises:
        ValueError: an option out of range. TypeError: one of a wrong type.
    """

    pos_weight: Tensor | float | None

    def __init__(
        self,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        pos_weight: float | Tensor | None = None,
        ignore_index: int | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.alpha, self.gamma = alpha, gamma
        if isinstance(pos_weight, Tensor):
            self.register_buffer("pos_weight", pos_weight)
        else:
            self.pos_weight = pos_weight
        self.ignore_index, self.reduction = ignore_index, reduction
        check_focal_options(self._options())

    def _options(self) -> dict[str, Any]:
        return {
            "alpha": self.alpha,
            "gamma": self.gamma,
            "pos_weight": self.pos_weight,
            "ignore_index": self.ignore_index,
            "reduction": self.reduction,
        }

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Compute the loss of logits and a mask of one shape: a scalar, or a number a pixel."""
        return focal_loss(logits, mask, **self._options())

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._options().items())
