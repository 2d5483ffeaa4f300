"""What every attack object has in common, ours or an adapter of another library's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ansm_fast.attacks.budget import AttackResult
from ansm_fast.attacks.query import LocalizerFunction


class ConfiguredAttack(ABC):
    """An attack with its settings, run on batches."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What the attack was made with, as JSON holds it; ``name`` and ``objective`` at least."""

    @abstractmethod
    def run(
        self,
        localizer: LocalizerFunction,
        image: Tensor,
        mask: Tensor,
        wrong_mask: Tensor | None = None,
        sample_ids: Sequence[int] | None = None,
    ) -> AttackResult:
        """Attack a batch; the result is within the budget around the 8-bit ``image``.

        Args:
            localizer: image to logits (B, 1, H, W), differentiable (but for "square", "noise").
            image: (B, 3, H, W) in [0, 1]. mask: (B, 1, H, W) in [0, 1], the truth.
            wrong_mask: for the objective "wrong-mask", a mask of another image.
            sample_ids: numbers that fix each sample's random choices; positions by default.

        Raises:
            ValueError: shapes that don't fit, or a missing mask.
        """

    def __call__(self, *arguments: Any, **keywords: Any) -> Tensor:
        """Attacked image (B, 3, H, W), multiples of 1/255; arguments as of ``run``."""
        return self.run(*arguments, **keywords).attacked
