"""Carlini and Wagner's attack on a localizer, kept within a budget (arXiv 1608.04644)."""

from __future__ import annotations

import torch
from torch import Tensor

from ansm_fast.attacks.objectives import Objective
from ansm_fast.attacks.query import Budget, LocalizerFunction, check_inputs, find_goal
from ansm_fast.ops import clamp_project


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
    """Adam on the noise, projected after every step, minimizing::

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
    check_inputs(image, mask, eps, steps, eot)
    if not (c > 0 and kappa >= 0):
        raise ValueError(f"c must be > 0 and kappa >= 0, got c={c}, kappa={kappa}")
    goal = find_goal(localizer, image, mask, objective, wrong_mask)
    noise = torch.zeros_like(image).requires_grad_(True)
    adam = torch.optim.Adam([noise], lr=alpha)
    best = image.clone()
    lowest = torch.full((len(image),), torch.inf, dtype=image.dtype, device=image.device)

    def hinge(attacked: Tensor) -> Tensor:
        return goal.margins(localizer(attacked)).clamp_min(-kappa).flatten(1).sum(1)

    def keep(found: Tensor, attacked: Tensor) -> None:
        better = found < lowest
        lowest[better] = found[better]
        best[better] = attacked[better]

    for _ in range(steps):
        attacked = (image + noise.detach()).clamp(0, 1).requires_grad_(True)
        found, gradient = torch.zeros_like(lowest), torch.zeros_like(image)
        for _ in range(eot):
            with torch.enable_grad():
                once = hinge(attacked)
                gradient += torch.autograd.grad(once.sum(), attacked)[0] / eot
            found += once.detach() / eot
        keep(found, attacked.detach())
        noise.grad = c * gradient + 2 * noise.detach()
        adam.step()
        with torch.no_grad():
            noise.copy_(clamp_project(image, noise, eps, norm=norm) - image)
    with torch.no_grad():
        attacked = (image + noise).clamp(0, 1)
        keep(torch.stack([hinge(attacked) for _ in range(eot)]).mean(0), attacked)
    return best
