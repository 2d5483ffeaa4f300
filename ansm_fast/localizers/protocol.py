"""What a localizer is: any ``nn.Module`` that turns an image into mask logits."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Localizer(Protocol):
    """Image (B, 3, H, W), RGB in [0, 1], to mask logits (B, 1, H, W); differentiable.

    ``taps`` names the submodules whose outputs FFA aligns; it may be empty. A localizer whose
    logits may all lie in [0, 1] says so by an attribute ``logits_from = "logits"``: attacks and
    evaluations otherwise take such an answer for probabilities, and stop.
    """

    taps: tuple[str, ...]

    def __call__(self, image: Tensor) -> Tensor: ...
