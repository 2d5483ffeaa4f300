"""SegPGD: PGD that turns from the pixels it has fooled to those it hasn't (arXiv 2207.12391)."""

from __future__ import annotations

import torch
from torch import Tensor

from ansm_fast.attacks.checks import Budget, LocalizerFunction, check_start
from ansm_fast.attacks.objectives import Objective
from ansm_fast.attacks.query import prepare
from ansm_fast.attacks.victim import leaves_victim_as_found
from ansm_fast.ops import pgd_step_


def segpgd_weights(margins: Tensor, step: int, steps: int) -> Tensor:
    """Weight of every pixel's loss in step t = ``step`` of T = ``steps``, t from 1.

    1 - lambda_t where the attacker has not succeeded yet (margin > 0: for the untargeted objective,
    the correctly classified pixels), lambda_t elsewhere, with lambda_t = (t - 1) / (2 T).
    """
    fooled_share = (step - 1) / (2 * steps)
    weights = torch.full_like(margins, fooled_share)
    return weights.masked_fill_(margins > 0, 1 - fooled_share)


@leaves_victim_as_found
def segpgd(
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
    """Run SegPGD (Gu et al. 2022); arguments as of ``pgd``, weights as of ``segpgd_weights``."""
    victim, image, goal = prepare(
        localizer, image, mask, eps=eps, steps=steps, eot=eot, norm=norm, objective=objective,
        wrong_mask=wrong_mask,
    )  # fmt: skip
    attacked = check_start(start, image)
    for step in range(1, steps + 1):

        def losses(logits: Tensor, step: int = step) -> Tensor:
            weights = segpgd_weights(goal.margins(logits.detach()), step, steps)
            return (weights * goal.pixel_losses(logits)).flatten(1).sum(1)

        gradient, _ = victim.gradient(attacked, losses)
        attacked = pgd_step_(attacked, gradient, image, alpha, eps, norm=norm)
    victim.finish()
    return attacked
