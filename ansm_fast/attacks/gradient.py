"""FGSM, PGD and MI-FGSM as pure functions on the fused steps of the op layer.

All functions of this package take a localizer, ``image`` (B, 3, H, W) in [0, 1], ``mask``
(B, 1, H, W), and give the attacked image in [0, 1] within the budget; nothing is rounded.

- ``localizer``: its modules are in eval mode while it is attacked, and afterwards every mode,
  buffer and ``requires_grad`` is as it was found. That covers the modules that a function closes
  over or names, but not those that it looks up while it runs: call ``eval()`` on these. Randomness
  that is meant as a defence must not hang on the mode (``F.dropout(x, training=True)``).
- ``image``: a few ulps outside [0, 1] are clamped.
- ``mask``: floats in [0, 1], or bool or whole numbers, of which all but 0 is forged.

- ``eps``, ``alpha``: floats or (B,). For norm "linf" they bound every value, in units of the image
  (4/255 is four grey levels); for "l2" the Euclidean norm of a whole sample's noise.
- ``objective``, ``wrong_mask``: see ``attack_loss``.
- ``eot``: evaluations whose gradient is averaged, for victims that answer at random.
- All raise ValueError for shapes that don't fit, values outside [0, 1], eps < 0, steps < 1 or a
  missing mask; its subclass LocalizerError for a localizer that gives no logits or no gradient:
  probabilities, other shapes, NaN or infinity, or a gradient that is 0 on the whole batch and on
  an image of noise too. A gradient that is 0 on single images at every step, though their loss is
  not flat, is a ZeroGradientWarning.

An attack by transfer is one of these on another localizer; an adaptive one is one of these on
``lambda image: localizer(ansm.defend(image))``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from ansm_fast.attacks.checks import Budget, LocalizerFunction, check_start
from ansm_fast.attacks.objectives import Objective
from ansm_fast.attacks.query import prepare
from ansm_fast.attacks.randomness import uniform_start
from ansm_fast.attacks.victim import leaves_victim_as_found
from ansm_fast.ops import momentum_step_, pgd_step_
from ansm_fast.ops.checks import check_choice

__all__ = ["KEEP", "Budget", "Keep", "LocalizerFunction", "fgsm", "mifgsm", "pgd", "uniform_start"]

Keep = Literal["last", "best"]
KEEP: tuple[str, ...] = get_args(Keep)


class _Best:
    """Of every sample the image of the highest loss among those that were offered."""

    def __init__(self) -> None:
        self._image: Tensor | None = None
        self._losses: Tensor | None = None

    def offer(self, image: Tensor, losses: Tensor) -> None:
        if self._image is None or self._losses is None:
            self._image, self._losses = image.clone(), losses.clone()
            return
        better = losses > self._losses
        self._losses = torch.where(better, losses, self._losses)
        self._image = torch.where(better.view(-1, 1, 1, 1), image, self._image)

    @property
    def image(self) -> Tensor:
        assert self._image is not None
        return self._image


@leaves_victim_as_found
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
    """Take one step of size eps along the gradient's sign ("l2": direction; arXiv 1412.6572)."""
    victim, image, goal = prepare(
        localizer, image, mask, eps=eps, eot=eot, norm=norm, objective=objective,
        wrong_mask=wrong_mask,
    )  # fmt: skip
    gradient, _ = victim.gradient(image, goal.losses)
    victim.finish()
    return pgd_step_(image.clone(), gradient, image, eps, eps, norm=norm)


@leaves_victim_as_found
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
    start: Tensor | Sequence[Tensor] | None = None,
    norm: str = "linf",
    eot: int = 1,
    keep: Keep = "last",
) -> Tensor:
    """Ascend by projected gradients (arXiv 1706.06083).

    Args:
        start: where to begin; None: at the image (BIM). Several are ascended from one after the
            other, and every sample gets the result of the highest loss (restarts).
        keep: "last", the end of an ascent, or "best", the iterate of the highest loss, its start
            included: a step may overshoot, and the last one need not be the best.

    The loss is the objective's own, before anything is rounded. Choosing costs one forward for each
    start and the memory of one more image.
    """
    victim, image, goal = prepare(
        localizer, image, mask, eps=eps, steps=steps, eot=eot, norm=norm, objective=objective,
        wrong_mask=wrong_mask,
    )  # fmt: skip
    check_choice("keep", keep, KEEP)
    starts = list(start) if isinstance(start, Sequence) else [start]
    if not starts:
        raise ValueError("start must hold an image at least; None begins at the image itself")
    attacked, best = image, _Best()
    choose = keep == "best" or len(starts) > 1
    for one in starts:
        attacked = check_start(one, image)
        for _ in range(steps):
            gradient, losses = victim.gradient(attacked, goal.losses)
            if keep == "best":
                best.offer(attacked, losses)
            attacked = pgd_step_(attacked, gradient, image, alpha, eps, norm=norm)
        if choose:
            best.offer(attacked, victim.scores(attacked, goal.losses))
    victim.finish()
    return best.image if choose else attacked


@leaves_victim_as_found
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
    """Run momentum iterative FGSM (arXiv 1710.06081); ``decay``: weight of the old momentum."""
    victim, image, goal = prepare(
        localizer, image, mask, eps=eps, steps=steps, eot=eot, norm=norm, objective=objective,
        wrong_mask=wrong_mask,
    )  # fmt: skip

    def gradient(attacked: Tensor) -> Tensor:
        return victim.gradient(attacked, goal.losses)[0]

    attacked = ascend_with_momentum(
        gradient, image, eps=eps, alpha=alpha, steps=steps, decay=decay, norm=norm
    )
    victim.finish()
    return attacked


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
    """Run the loop of MI-FGSM and what is built on it; ``gradient`` gives the direction at an
    image."""
    attacked, momentum = image.clone(), torch.zeros_like(image)
    for _ in range(steps):
        attacked = momentum_step_(
            attacked, momentum, gradient(attacked), image, alpha, eps, decay=decay, norm=norm
        )
    return attacked
