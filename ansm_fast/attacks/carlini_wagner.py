"""Carlini and Wagner's attack on a localizer, kept within a budget (arXiv 1608.04644)."""

from __future__ import annotations

import torch
from torch import Tensor

from ansm_fast.attacks.checks import Budget, LocalizerFunction
from ansm_fast.attacks.objectives import Objective
from ansm_fast.attacks.query import prepare
from ansm_fast.attacks.victim import leaves_victim_as_found
from ansm_fast.ops import clamp_project


@leaves_victim_as_found
def cw(
    localizer: LocalizerFunction,
    image: Tensor,
    mask: Tensor,
    *,
    eps: Budget,
    alpha: float,
    steps: int,
    c: float = 1.0,
    kappa: float = 0.0,
    objective: Objective = "untargeted",
    wrong_mask: Tensor | None = None,
    norm: str = "l2",
    eot: int = 1,
) -> Tensor:
    """Minimize by Adam on the noise, which is projected after every step::

        ||noise||_2^2 + c * sum over pixels of max(margin, -kappa)

    with margin = the logit, signed so that it is negative where the attacker has succeeded. The
    paper's change of variables keeps images valid but knows no budget; the projection does both.
    The best iterate of each sample, by its sum of margins, is kept.

    Args:
        eps: bound of the noise in ``norm``; for "l2" of its Euclidean norm.
        alpha: Adam's learning rate, about the change of a value in one step, in units of the image.
        c: weight of the margins.
        kappa: how far beyond its threshold a pixel's logit is pushed.
        steps, objective, wrong_mask, eot: as of ``pgd``. Takes steps + 1 forwards.
    """
    if not (c > 0 and kappa >= 0):
        raise ValueError(f"c must be > 0 and kappa >= 0, got c={c}, kappa={kappa}")
    victim, image, goal = prepare(
        localizer, image, mask, eps=eps, steps=steps, eot=eot, norm=norm, objective=objective,
        wrong_mask=wrong_mask,
    )  # fmt: skip
    noise = torch.zeros_like(image).requires_grad_(True)
    adam = torch.optim.Adam([noise], lr=alpha)
    best = image.clone()
    lowest = torch.full((len(image),), torch.inf, device=image.device)

    def hinge(logits: Tensor) -> Tensor:
        return goal.margins(logits).clamp_min(-kappa).flatten(1).sum(1)

    def keep(found: Tensor, attacked: Tensor) -> None:
        nonlocal lowest, best
        better = found < lowest
        lowest = torch.where(better, found, lowest)
        best = torch.where(better.view(-1, 1, 1, 1), attacked, best)

    for _ in range(steps):
        attacked = (image + noise.detach()).clamp(0, 1)
        gradient, found = victim.gradient(attacked, hinge)
        keep(found, attacked)
        noise.grad = c * gradient + 2 * noise.detach()
        adam.step()
        with torch.no_grad():
            noise.copy_(clamp_project(image, noise, eps, norm=norm) - image)
    with torch.no_grad():
        attacked = (image + noise).clamp(0, 1)
        keep(victim.scores(attacked, hinge), attacked)
    victim.finish()
    return best
