"""SegPGD: PGD that turns from the pixels it has fooled to those it hasn't (arXiv 2207.12391)."""

from __future__ import annotations

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
from ansm_fast.ops import pgd_step_


def segpgd_weights(margins: Tensor, step: int, steps: int) -> Tensor:
    """Weight of every pixel's loss in step t = ``step`` of T = ``steps``, t from 1.

    1 - lambda_t where the attacker has not succeeded yet (margin > 0: for the untargeted objective,
    the correctly classified pixels), lambda_t elsewhere, with lambda_t = (t - 1) / (2 T).
    """
    fooled_share = (step - 1) / (2 * steps)
    weights = torch.full_like(margins, fooled_share)
    return weights.masked_fill_(margins > 0, 1 - fooled_share)


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
    """SegPGD (Gu et al. 2022); arguments as of ``pgd``, weights as of ``segpgd_weights``."""
    check_inputs(image, mask, eps, steps, eot)
    goal = find_goal(localizer, image, mask, objective, wrong_mask)
    attacked = image.clone() if start is None else start.clone()
    for step in range(1, steps + 1):

        def weight(logits: Tensor, step: int = step) -> Tensor:
            return segpgd_weights(goal.margins(logits), step, steps)

        gradient = input_gradient(localizer, attacked, goal, eot, weight)
        attacked = pgd_step_(attacked, gradient, image, alpha, eps, norm=norm)
    return attacked
