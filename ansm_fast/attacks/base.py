"""What every attack object has in common, ours or an adapter of another library's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ansm_fast.attacks.budget import AttackResult
from ansm_fast.attacks.checks import LocalizerFunction


class ConfiguredAttack(ABC):
    """An attack with its settings, run on batches."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return what the attack was made with, as JSON holds it; ``name`` and ``objective`` at
        least."""

    @abstractmethod
    def run(
        self,
        localizer: LocalizerFunction,
        image: Tensor,
        mask: Tensor,
        wrong_mask: Tensor | None = None,
        sample_ids: Sequence[int] | None = None,
    ) -> AttackResult:
        """Attack a batch; the result is 8 bits deep and within the budget around ``image``.

        Args:
            localizer: image to logits (B, 1, H, W), differentiable (but for "square", "noise"); in
                eval mode meanwhile, and then as it was found (see ``attacks.gradient``).
            image: (B, 3, H, W) in [0, 1], any floating dtype; half precision is attacked in
                float32, of which the localizer sees the image's own dtype.
            mask: (B, 1, H, W), the truth; floats in [0, 1], or bool or whole numbers, of which all
                but 0 is forged.
            wrong_mask: for the objective "wrong-mask", a mask of another image; as ``mask``.
            sample_ids: numbers that fix each sample's random choices; positions by default.

        Raises:
            ValueError: shapes that don't fit, values out of range, or a missing mask.
            LocalizerError (a ValueError): the localizer gives no logits or no gradient, see
                ``attacks.gradient``.

        Warns:
            ZeroGradientWarning: see ``AttackResult.stuck``. UserWarning: the result of an image
            between two grey levels is not ``within_budget``, since eps is below half a level.
        """

    def __call__(self, *arguments: Any, **keywords: Any) -> Tensor:
        """Attacked image (B, 3, H, W), multiples of 1/255; arguments as of ``run``."""
        return self.run(*arguments, **keywords).attacked
