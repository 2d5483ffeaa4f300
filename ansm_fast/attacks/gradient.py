"""FGSM, BIM, PGD and MI-FGSM as pure functions on the fused steps of the op layer.

All functions of this package take a localizer, ``image`` (B, 3, H, W) in [0, 1], ``mask``
(B, 1, H, W) in [0, 1], and give the attacked image in [0, 1] within the budget; nothing is rounded.

- ``eps``, ``alpha``: floats or (B,). For norm "linf" they bound every value, in units of the image
  (4/255 is four grey levels); for "l2" the Euclidean norm of a whole sample's noise.
- ``objective``, ``wrong_mask``: see ``attack_loss``.
- ``eot``: evaluations whose gradient is averaged, for victims that answer at random.
- All raise ValueError for shapes that don't fit, eps < 0, steps < 1 or a missing mask.

An attack by transfer is one of these on another localizer; an adaptive one is one of these on
``lambda image: localizer(ansm.defend(image))``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ansm_fast.attacks.objectives import Objective
from ansm_fast.attacks.query import (
    Budget,
    LocalizerFunction,
    check_inputs,
    find_goal,
    input_gradient,
)
from ansm_fast.attacks.randomness import uniform_start
from ansm_fast.ops import momentum_step_, pgd_step_

__all__ = ["Budget", "LocalizerFunction", "fgsm", "mifgsm", "pgd", "uniform_start"]


def fgsm(
    localizer: LocalizerFunction,
    image: Tensor,
    mask: Tensor,
    *,
    eps: Budget,
    objective: Objective = "untargeted",
    wrong_mask: Tensor | None = None,
    norm: str = "linf",
    eot: int = 1,
) -> Tensor:
    """One step of size eps along the gradient's sign ("l2": its direction; arXiv 1412.6572)."""
    check_inputs(image, mask, eps, eot=eot)
    goal = find_goal(localizer, image, mask, objective, wrong_mask)
    gradient = input_gradient(localizer, image, goal, eot)
    return pgd_step_(image.clone(), gradient, image, eps, eps, norm=norm)


def pgd(
    localizer: LocalizerFunction,
    image: Tensor,
    mask: Tensor,
    *,
    eps: Budget,
    alpha: Budget,
    steps: int,
    objective: Objective = "untargeted",
    wrong_mask: Tensor | None = None,
    start: Tensor | None = None,
    norm: str = "linf",
    eot: int = 1,
) -> Tensor:
    """Projected gradient ascent (arXiv 1706.06083); ``start=None`` begins at the image (BIM)."""
    check_inputs(image, mask, eps, steps, eot)
    goal = find_goal(localizer, image, mask, objective, wrong_mask)
    attacked = image.clone() if start is None else start.clone()
    for _ in range(steps):
        gradient = input_gradient(localizer, attacked, goal, eot)
        attacked = pgd_step_(attacked, gradient, image, alpha, eps, norm=norm)
    return attacked


def mifgsm(
    localizer: LocalizerFunction,
    image: Tensor,
    mask: Tensor,
    *,
    eps: Budget,
    alpha: Budget,
    steps: int,
    decay: float = 1.0,
    objective: Objective = "untargeted",
    wrong_mask: Tensor | None = None,
    norm: str = "linf",
    eot: int = 1,
) -> Tensor:
    """Momentum iterative FGSM (arXiv 1710.06081); ``decay`` is the weight of the old momentum."""
    check_inputs(image, mask, eps, steps, eot)
    goal = find_goal(localizer, image, mask, objective, wrong_mask)

    def gradient(attacked: Tensor) -> Tensor:
        return input_gradient(localizer, attacked, goal, eot)

    return ascend_with_momentum(
        gradient, image, eps=eps, alpha=alpha, steps=steps, decay=decay, norm=norm
    )


def ascend_with_momentum(
    gradient: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    eps: Budget,
    alpha: Budget,
    steps: int,
    decay: float,
    norm: str,
) -> Tensor:
    """The loop of MI-FGSM and what is built on it; ``gradient`` gives the direction at an image."""
    attacked, momentum = image.clone(), torch.zeros_like(image)
    for _ in range(steps):
        attacked = momentum_step_(
            attacked, momentum, gradient(attacked), image, alpha, eps, decay=decay, norm=norm
        )
    return attacked
