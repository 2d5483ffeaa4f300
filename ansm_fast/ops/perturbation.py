"""Clamp-and-project, and the in-place steps of gradient attacks."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ansm_fast.ops import backends, reference

Budget = float | Tensor


def clamp_project(
    image: Tensor, perturbation: Tensor, eps: Budget, *, backend: str | None = None, **options: Any
) -> Tensor:
    backends.choose("clamp_project", (image, perturbation), backend)
    return reference.clamp_project(image, perturbation, eps, **options)


def pgd_step_(
    adv: Tensor, grad: Tensor, image: Tensor, alpha: Budget, eps: Budget, *,
    backend: str | None = None, **options: Any,
) -> Tensor:
    backends.choose("pgd_step_", (adv, grad, image), backend)
    return reference.pgd_step_(adv, grad, image, alpha, eps, **options)


def momentum_step_(
    adv: Tensor, momentum: Tensor, grad: Tensor, image: Tensor, alpha: Budget, eps: Budget, *,
    backend: str | None = None, **options: Any,
) -> Tensor:
    backends.choose("momentum_step_", (adv, momentum, grad, image), backend)
    return reference.momentum_step_(adv, momentum, grad, image, alpha, eps, **options)
