"""The defence as a step of a pipeline of tensors."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from ansm_fast.models.base import BaseANSM


class Defence(nn.Module):
    """Gives the defended image where an ANSM's own ``forward`` gives the perturbation.

    So it is a step of ``nn.Sequential`` and of what composes transforms: (3, H, W) or
    (B, 3, H, W), floating, RGB in [0, 1], comes back defended in its shape and type. It compiles
    without graph breaks, and gradients go through it.

    Args:
        ansm: is part of the module, not a copy; a name or file is loaded by ``load_ansm``, None is
            the default one.
    """

    def __init__(self, ansm: BaseANSM | str | Path | None = None) -> None:
        super().__init__()
        if not isinstance(ansm, BaseANSM):
            if isinstance(ansm, nn.Module):
                raise TypeError(f"ansm must be an ANSM, got {type(ansm).__name__}; see load_ansm")
            from ansm_fast.models import load_ansm

            ansm = load_ansm(ansm)
        self.ansm = ansm

    def forward(self, image: Tensor) -> Tensor:
        """Raises as ``BaseANSM.defend``."""
        if isinstance(image, Tensor) and image.dim() == 3:
            return self.ansm.defend(image[None])[0]
        return self.ansm.defend(image)


class DefendedLocalizer(nn.Module):
    """A localizer that sees its images defended; a localizer itself, of the same features.

    Args:
        localizer: image (B, 3, H, W) to logits (B, 1, H, W).
        ansm: the one that was trained for it, as of ``Defence``.

    ``DefendedLocalizer(localizer, ansm)(image)`` is ``localizer(ansm.defend(image))``.
    """

    def __init__(self, localizer: nn.Module, ansm: BaseANSM | str | Path | None = None) -> None:
        super().__init__()
        if not isinstance(localizer, nn.Module):
            raise TypeError(f"localizer must be a module, got {type(localizer).__name__}")
        self.defence, self.localizer = Defence(ansm), localizer
        self.taps = tuple(f"localizer.{name}" for name in getattr(localizer, "taps", ()))
        if (logits_from := getattr(localizer, "logits_from", None)) is not None:
            self.logits_from = logits_from

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 1, H, W). Raises as ``BaseANSM.defend``."""
        found: Tensor = self.localizer(self.defence(image))
        return found
