"""Clamp-and-project, and the in-place steps of gradient attacks."""

from __future__ import annotations

from torch import Tensor

from ansm_fast.ops import backends
from ansm_fast.ops.budget import Budget
from ansm_fast.ops.checks import (
    check_batch,
    check_budget,
    check_choice,
    check_finite,
    check_floating,
    check_range,
    check_same,
    check_writable,
)
from ansm_fast.ops.perturbation import reference

NORMS = ("linf", "l2")


def _check(image: Tensor, norm: str, min: float, max: float) -> None:
    check_floating("image", image)
    check_batch("image", image)
    check_choice("norm", norm, NORMS)
    check_range(min, max)


def clamp_project(
    image: Tensor,
    perturbation: Tensor,
    eps: Budget,
    *,
    norm: str = "linf",
    min: float = 0.0,
    max: float = 1.0,
    backend: str | None = None,
) -> Tensor:
    """Compute ``clamp(image + project(perturbation, eps), min, max)``, in one pass.

    ``project`` gives the nearest point of the eps-ball: for "linf" every value clipped to
    [-eps, eps]; for "l2" every sample's perturbation scaled by min(1, eps / its norm).

    Args:
        image: (B, ...), float32, float16, bfloat16 or float64.
        perturbation: same shape and dtype (any floating dtype under autocast).
        eps: >= 0, a number or a tensor of shape () or (B,). Not differentiable.
        norm: "linf" or "l2" (over all values of a sample).
        min, max: valid range of the image.
        backend: "cpu", "reference", ...; by default the first that can run.

    Returns:
        Same shape, dtype and memory format as ``image``. For an image within [min, max],
        ``|result - image|`` is at most eps, up to the one rounding of the sum in float32 and
        float64; in float16 and bfloat16 a rounded sum that would leave the budget is moved one
        number back, so that it holds as computed in float32.

    Gradients as autograd's of the formula: zero where the clamp or the clip is active; for "l2"
    the scale is differentiated. Differentiable once, in both tensors.

    Raises:
        TypeError: wrong dtype, or min or max is no number. ValueError: shapes or devices differ,
            eps < 0 or requires grad, min > max, an unknown norm. BackendError: the forced backend
            cannot run.
    """
    _check(image, norm, min, max)
    check_same("perturbation", perturbation, "image", image)
    check_budget("eps", eps, image)
    chosen = backends.choose("clamp_project", (image, perturbation), backend)
    if chosen != "reference":
        return backends.native(chosen)["clamp_project"](
            image, perturbation, eps, norm, float(min), float(max)
        )
    return reference.clamp_project(image, perturbation, eps, norm=norm, min=min, max=max)


def pgd_step_(
    adv: Tensor,
    grad: Tensor,
    image: Tensor,
    alpha: Budget,
    eps: Budget,
    *,
    norm: str = "linf",
    min: float = 0.0,
    max: float = 1.0,
    backend: str | None = None,
) -> Tensor:
    """Take a step of projected gradient *ascent*, in place (PGD, arXiv 1706.06083)::

        adv <- clamp(image + project(adv + alpha * direction - image, eps), min, max)

    with direction = sign(grad) for "linf" (0 for NaN), and grad / ||grad||_2 of each sample for
    "l2" (0 where the gradient is 0). Three reads and one write for "linf".

    Args:
        adv: (B, ...), the attacked images, overwritten.
        grad: gradient of what is to grow, same shape.
        image: the images before the attack, same shape.
        alpha, eps: >= 0, a number or a tensor of shape () or (B,).
        norm, min, max, backend: as in ``clamp_project``.

    Returns:
        ``adv``. The budget holds as ``clamp_project`` says, and exactly after rounding to 8 bits.

    Raises:
        As ``clamp_project``; ValueError also where ``adv`` is expanded, or requires grad while
        gradients are recorded.
    """
    check_floating("adv", adv)
    _check(image, norm, min, max)
    check_same("adv", adv, "image", image)
    check_same("grad", grad, "image", image)
    check_budget("alpha", alpha, image)
    check_budget("eps", eps, image)
    check_writable("adv", adv)
    chosen = backends.choose("pgd_step_", (adv, grad, image), backend)
    if chosen != "reference":
        backends.native(chosen)["pgd_step_"](
            adv, grad, image, alpha, eps, norm, float(min), float(max)
        )
        return adv
    return reference.pgd_step_(adv, grad, image, alpha, eps, norm=norm, min=min, max=max)


def momentum_step_(
    adv: Tensor,
    momentum: Tensor,
    grad: Tensor,
    image: Tensor,
    alpha: Budget,
    eps: Budget,
    *,
    decay: float = 1.0,
    norm: str = "linf",
    min: float = 0.0,
    max: float = 1.0,
    backend: str | None = None,
) -> Tensor:
    """Take a step of MI-FGSM (arXiv 1710.06081), in place::

        momentum <- decay * momentum + grad / mean(|grad|)
        adv      <- the step of ``pgd_step_`` along the new momentum

    The mean is over each sample (the paper's L1 norm divided by the number of values, so that
    ``decay`` means the same for every size); a sample whose gradient is 0 adds nothing.

    Args:
        momentum: (B, ...), overwritten; zeros before the first step.
        decay: weight of the old momentum, a finite number.
        adv, grad, image, alpha, eps, norm, min, max, backend: as in ``pgd_step_``.

    Returns:
        ``adv``.

    Raises:
        As ``pgd_step_``, which holds of ``momentum`` too.
    """
    check_floating("adv", adv)
    _check(image, norm, min, max)
    check_same("adv", adv, "image", image)
    check_same("momentum", momentum, "image", image)
    check_same("grad", grad, "image", image)
    check_budget("alpha", alpha, image)
    check_budget("eps", eps, image)
    check_finite("decay", decay)
    check_writable("adv", adv)
    check_writable("momentum", momentum)
    chosen = backends.choose("momentum_step_", (adv, momentum, grad, image), backend)
    if chosen != "reference":
        backends.native(chosen)["momentum_step_"](
            adv, momentum, grad, image, alpha, eps, float(decay), norm, float(min), float(max)
        )
        return adv
    return reference.momentum_step_(
        adv, momentum, grad, image, alpha, eps, decay=decay, norm=norm, min=min, max=max
    )
