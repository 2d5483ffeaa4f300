"""A localizer that counts how often it is asked."""

from __future__ import annotations

import torch
from torch import Tensor

from ansm_fast.attacks.checks import LocalizerFunction


class CountedLocalizer:
    """A localizer that counts the images it has seen forwards and backwards.

    Args:
        localizer: image to logits.
        dtype: of the images that it takes; by default that of the images it is given.

    Handed to several attacks one after the other, it also remembers what it has shown to be, so
    that this is looked at once.

    Attributes:
        forwards, backwards: numbers of images, whoever called.
        gives_logits, gives_gradients: an attack has seen that it does.
        stuck: (B,) bool, the images of the last attack whose gradient was zero at every step; None
            if none was asked for.
    """

    def __init__(self, localizer: LocalizerFunction, dtype: torch.dtype | None = None) -> None:
        self.localizer, self.dtype = localizer, dtype
        self.forwards = self.backwards = 0
        self.gives_logits = self.gives_gradients = False
        self.stuck: Tensor | None = None

    def __call__(self, image: Tensor) -> Tensor:
        self.forwards += len(image)
        logits = self.uncounted(image)
        if isinstance(logits, Tensor) and logits.requires_grad:
            logits.register_hook(self._count_backward)
        return logits

    def uncounted(self, image: Tensor) -> Tensor:
        """Return what a call gives, without counting."""
        return self.localizer(image if self.dtype is None else image.to(self.dtype))

    def _count_backward(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def counters(localizer: object) -> list[CountedLocalizer]:
    """Those around a localizer, the outermost first."""
    found: list[CountedLocalizer] = []
    while isinstance(localizer, CountedLocalizer):
        found.append(localizer)
        localizer = localizer.localizer
    return found
