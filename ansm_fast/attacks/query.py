"""What an attack asks of its victim: scores, gradients, and how many of both it took."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ansm_fast.attacks.objectives import Goal, Objective, make_goal

Budget = float | Tensor
LocalizerFunction = Callable[[Tensor], Tensor]
PixelWeight = Callable[[Tensor], Tensor]


class CountedLocalizer:
    """A localizer that counts the images it has seen forwards and backwards.

    Attributes:
        forwards, backwards: numbers of images, whoever called.
    """

    def __init__(self, localizer: LocalizerFunction) -> None:
        self.localizer = localizer
        self.forwards = self.backwards = 0

    def __call__(self, image: Tensor) -> Tensor:
        self.forwards += len(image)
        logits = self.localizer(image)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)
        return logits

    def _count_backward(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def check_inputs(image: Tensor, mask: Tensor, eps: Budget, steps: int = 1, eot: int = 1) -> None:
    """Raise ValueError, naming the argument, where an attack cannot begin."""
    if image.dim() != 4 or not image.is_floating_point():
        raise ValueError(
            f"image must be floating (B, C, H, W), got {image.dtype} {tuple(image.shape)}"
        )
    expected = (image.shape[0], 1, *image.shape[2:])
    if tuple(mask.shape) != expected:
        raise ValueError(f"mask must have shape {expected}, got {tuple(mask.shape)}")
    lowest = float(eps.min()) if isinstance(eps, Tensor) else eps
    if not lowest >= 0:
        raise ValueError(f"eps must be >= 0, got {lowest}")
    for name, value in (("steps", steps), ("eot", eot)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}")


def find_goal(
    localizer: LocalizerFunction,
    image: Tensor,
    mask: Tensor,
    objective: Objective,
    wrong_mask: Tensor | None,
) -> Goal:
    """The goal of an attack that begins at ``image``; "own-prediction" costs one forward."""
    own_mask = None
    if objective == "own-prediction":
        with torch.no_grad():
            own_mask = (localizer(image) > 0).to(image.dtype)
    return make_goal(objective, mask, wrong_mask, own_mask)


def scores(localizer: LocalizerFunction, image: Tensor, goal: Goal, eot: int = 1) -> Tensor:
    """(B,), the loss of the goal, averaged over ``eot`` evaluations; without gradient."""
    with torch.no_grad():
        return torch.stack([goal.losses(localizer(image)) for _ in range(eot)]).mean(0)


def input_gradient(
    localizer: LocalizerFunction,
    image: Tensor,
    goal: Goal,
    eot: int = 1,
    pixel_weight: PixelWeight | None = None,
) -> Tensor:
    """Gradient of the goal's loss at ``image``, averaged over ``eot`` evaluations.

    Expectation over transformation (Athalye et al. 2018): a randomized victim answers differently
    each time, and one answer's gradient says little about the next one's.

    Args:
        pixel_weight: gives, for detached logits, the weight of every pixel's loss.
    """
    total: Tensor | None = None
    for _ in range(eot):
        with torch.enable_grad():
            leaf = image.detach().requires_grad_(True)
            logits = localizer(leaf)
            if pixel_weight is None:
                loss = goal.losses(logits).sum()
            else:
                loss = (pixel_weight(logits.detach()) * goal.pixel_losses(logits)).sum()
            gradient = torch.autograd.grad(loss, leaf)[0]
        total = gradient if total is None else total + gradient
    assert total is not None
    return total if eot == 1 else total / eot
