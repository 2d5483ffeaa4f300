"""FGSM, BIM, PGD and MI-FGSM as pure functions on the fused steps of the op layer.

All take a localizer, ``image`` (B, 3, H, W) in [0, 1], ``mask`` (B, 1, H, W) in [0, 1], and give
the attacked image in [0, 1] with ``max |attacked - image| <= eps``; nothing is rounded here.
``eps`` and ``alpha`` are in units of the image (4/255 is four grey levels), floats or (B,).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ansm_fast.attacks.objectives import Objective, attack_loss
from ansm_fast.ops import clamp_project, momentum_step_, pgd_step_

Budget = float | Tensor
LocalizerFunction = Callable[[Tensor], Tensor]


def _check(image: Tensor, mask: Tensor, eps: Budget, steps: int = 1) -> None:
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
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")


def _gradient(
    localizer: LocalizerFunction,
    image: Tensor,
    mask: Tensor,
    objective: Objective,
    wrong_mask: Tensor | None,
) -> Tensor:
    with torch.enable_grad():
        leaf = image.detach().requires_grad_(True)
        loss = attack_loss(localizer(leaf), mask, objective, wrong_mask)
        return torch.autograd.grad(loss, leaf)[0]


def uniform_start(image: Tensor, eps: Budget, seeds: Sequence[Sequence[int]]) -> Tensor:
    """``image`` plus uniform noise in [-eps, eps]; one seed a sample, whatever the batch."""
    noise = torch.empty(image.shape)
    for row, seed in zip(noise, seeds, strict=True):
        generator = torch.Generator().manual_seed(hash(tuple(seed)) & 0x7FFF_FFFF_FFFF_FFFF)
        row.uniform_(-1, 1, generator=generator)
    scale = eps.view(-1, 1, 1, 1) if isinstance(eps, Tensor) else eps
    return clamp_project(image, noise.to(image) * scale, eps)


def fgsm(
    localizer: LocalizerFunction,
    image: Tensor,
    mask: Tensor,
    *,
    eps: Budget,
    objective: Objective = "untargeted",
    wrong_mask: Tensor | None = None,
) -> Tensor:
    """One step of size eps along the sign of the gradient (Goodfellow et al. 2015)."""
    _check(image, mask, eps)
    gradient = _gradient(localizer, image, mask, objective, wrong_mask)
    return pgd_step_(image.clone(), gradient, image, eps, eps)


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
) -> Tensor:
    """Projected gradient ascent (Madry et al. 2018); ``start=None`` begins at the image (BIM)."""
    _check(image, mask, eps, steps)
    attacked = image.clone() if start is None else start.clone()
    for _ in range(steps):
        gradient = _gradient(localizer, attacked, mask, objective, wrong_mask)
        attacked = pgd_step_(attacked, gradient, image, alpha, eps)
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
) -> Tensor:
    """Momentum iterative FGSM (Dong et al. 2018)."""
    _check(image, mask, eps, steps)
    attacked, momentum = image.clone(), torch.zeros_like(image)
    for _ in range(steps):
        gradient = _gradient(localizer, attacked, mask, objective, wrong_mask)
        attacked = momentum_step_(attacked, momentum, gradient, image, alpha, eps, decay=decay)
    return attacked
