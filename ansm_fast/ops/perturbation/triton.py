"""clamp_project and the attack steps: the shapes of their launches. The arithmetic:
kernels/perturbation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ansm_fast.kernels.common.triton_numbers import words
from ansm_fast.kernels.perturbation.triton_kernel import (
    STEP_SCALES,
    STEP_SUMS,
    along_kernel,
    project_backward_kernel,
    project_kernel,
    radial_kernel,
    shrink_kernel,
    squares_kernel,
    step_kernel,
    step_parts_kernel,
    step_scales_kernel,
)
from ansm_fast.ops.layout import empty_in_order
from ansm_fast.ops.triton_launch import (
    block_of,
    cdiv,
    check,
    check_floating,
    check_shape,
    define,
    elements_of_sample,
    in_order,
    is_double,
    nothing,
    sample_kind,
    wrap_triton,
)

COMBINE: dict[str, Any] = {"BLOCK": 256, "num_warps": 4}


def _check_images(image: Tensor) -> None:
    check(image.dim() >= 2, "images must have shape (B, ...)")
    check_floating(image, "image")


def _samples(like: Tensor, together: bool) -> tuple[int, int]:
    """Samples and their elements; one of everything where samples need not be told apart."""
    if together:
        return 1, like.numel()
    return like.shape[0], elements_of_sample(like)


def _shrink(
    noise: Tensor, image: Tensor, sample_eps: Tensor, eps: tuple[int, int], kind: int
) -> tuple[Tensor, Tensor]:
    """Of each sample min(1, eps / norm) and the norm."""
    samples, elements = _samples(image, together=False)
    pieces = cdiv(elements, block_of(image))
    parts = image.new_empty((samples, pieces), dtype=torch.float64)
    scales, norms = image.new_empty((2, samples), dtype=torch.float64).unbind()
    wrap_triton(squares_kernel)[(samples * pieces,)](
        noise, parts, elements, pieces, DOUBLE=is_double(image), BLOCK=block_of(image), num_warps=4
    )
    wrap_triton(shrink_kernel)[(samples,)](
        parts, norms, scales, sample_eps, pieces, *eps, EPS=kind, **COMBINE
    )
    return scales, norms


@define("clamp_project")
def clamp_project(
    image: Tensor,
    perturbation: Tensor,
    eps: float,
    sample_eps: Tensor | None,
    l2: bool,
    min: float,
    max: float,
) -> Tensor:
    _check_images(image)
    check_floating(perturbation, "perturbation")
    check_shape(perturbation, image, "perturbation")
    image = in_order(image, image)
    noise = in_order(perturbation, image)
    out = empty_in_order(image, image)
    kind = sample_kind(sample_eps, image.shape[0], "eps")
    if image.numel() == 0:
        return out
    budget = image if sample_eps is None else sample_eps
    scales = _shrink(noise, image, budget, words(eps), kind)[0] if l2 else image
    samples, elements = _samples(image, together=not l2 and kind != 2)
    pieces = cdiv(elements, block_of(image))
    wrap_triton(project_kernel)[(samples * pieces,)](
        image, noise, out, budget, scales, elements, pieces, *words(eps), *words(min), *words(max),
        DOUBLE=is_double(image), L2=l2, EPS=kind, BLOCK=block_of(image), num_warps=4,
    )  # fmt: skip
    return out


@define("clamp_project_backward")
def clamp_project_backward(
    grad_output: Tensor,
    image: Tensor,
    perturbation: Tensor,
    eps: float,
    sample_eps: Tensor | None,
    l2: bool,
    min: float,
    max: float,
    grad_image: bool,
    grad_perturbation: bool,
) -> tuple[Tensor, Tensor]:
    _check_images(image)
    check_floating(grad_output, "grad_output")
    check_shape(perturbation, image, "perturbation")
    check_shape(grad_output, image, "grad_output")
    image = in_order(image, image)
    noise, grad = in_order(perturbation, image), in_order(grad_output, image)
    to_image = empty_in_order(image, image) if grad_image else nothing(image)
    to_noise = empty_in_order(noise, image) if grad_perturbation else nothing(noise)
    kind = sample_kind(sample_eps, image.shape[0], "eps")
    if image.numel() == 0 or not (grad_image or grad_perturbation):
        return to_image, to_noise
    budget = image if sample_eps is None else sample_eps
    double, block = is_double(image), block_of(image)
    limits = (*words(min), *words(max))
    samples, elements = _samples(image, together=not l2 and kind != 2)
    pieces = cdiv(elements, block)
    scales = radials = image
    if l2:
        scales, norms = _shrink(noise, image, budget, words(eps), kind)
        if grad_perturbation:
            parts = image.new_empty((samples, pieces), dtype=torch.float64)
            radials = image.new_empty(samples, dtype=torch.float64)
            wrap_triton(along_kernel)[(samples * pieces,)](
                grad, image, noise, scales, parts, elements, pieces, *limits, DOUBLE=double,
                BLOCK=block, num_warps=4,
            )  # fmt: skip
            wrap_triton(radial_kernel)[(samples,)](
                parts, norms, radials, budget, pieces, *words(eps), EPS=kind, **COMBINE
            )
    wrap_triton(project_backward_kernel)[(samples * pieces,)](
        grad, image, noise, to_image if grad_image else image,
        to_noise if grad_perturbation else image, budget, scales, radials, elements, pieces,
        *words(eps), *limits, DOUBLE=double, L2=l2, EPS=kind, GRAD_IMAGE=grad_image,
        GRAD_PERTURBATION=grad_perturbation, BLOCK=block, num_warps=4,
    )  # fmt: skip
    return to_image, to_noise


def _take_step(
    adv: Tensor,
    momentum: Tensor | None,
    grad: Tensor,
    image: Tensor,
    alpha: float,
    sample_alpha: Tensor | None,
    eps: float,
    sample_eps: Tensor | None,
    decay: float,
    l2: bool,
    min: float,
    max: float,
) -> None:
    """``adv`` (and ``momentum``) are written in place; where they have gaps, through one copy."""
    _check_images(adv)
    for tensor, name in ((grad, "grad"), (image, "image"), (momentum, "momentum")):
        if tensor is not None:
            check_floating(tensor, name)
            check_shape(tensor, adv, name)
    batch = adv.shape[0]
    kinds = {
        "ALPHA": sample_kind(sample_alpha, batch, "alpha"),
        "EPS": sample_kind(sample_eps, batch, "eps"),
    }
    if adv.numel() == 0:
        return
    to, grad, image = in_order(adv, adv), in_order(grad, adv), in_order(image, adv)
    to_momentum = to if momentum is None else in_order(momentum, adv)
    alphas = to if sample_alpha is None else sample_alpha
    budget = to if sample_eps is None else sample_eps
    flags: dict[str, Any] = {"L2": l2, "MOMENTUM": momentum is not None}
    memory: dict[str, Any] = {"DOUBLE": is_double(adv), "BLOCK": block_of(adv), "num_warps": 4}
    summed = l2 or momentum is not None
    samples, elements = _samples(adv, together=not summed and 2 not in kinds.values())
    pieces = cdiv(elements, block_of(adv))
    numbers = (*words(alpha), *words(eps), *words(decay))
    scales = to
    if summed:
        parts = adv.new_empty((STEP_SUMS if l2 else 1, samples, pieces), dtype=torch.float64)
        scales = adv.new_empty((samples, STEP_SCALES), dtype=torch.float64)
        wrap_triton(step_parts_kernel)[(samples * pieces,)](
            to, to_momentum, grad, image, parts, samples, elements, pieces, **flags, **memory
        )
        wrap_triton(step_scales_kernel)[(samples,)](
            parts, scales, alphas, budget, samples, elements, pieces, *numbers, **flags, **kinds,
            **COMBINE,
        )  # fmt: skip
    wrap_triton(step_kernel)[(samples * pieces,)](
        to, to_momentum, grad, image, alphas, budget, scales, elements, pieces, *numbers,
        *words(min), *words(max), **flags, **kinds, **memory,
    )  # fmt: skip
    if to is not adv:
        adv.copy_(to)
    if momentum is not None and to_momentum is not momentum:
        momentum.copy_(to_momentum)


@define("pgd_step_")
def pgd_step_(
    adv: Tensor,
    grad: Tensor,
    image: Tensor,
    alpha: float,
    sample_alpha: Tensor | None,
    eps: float,
    sample_eps: Tensor | None,
    l2: bool,
    min: float,
    max: float,
) -> None:
    _take_step(adv, None, grad, image, alpha, sample_alpha, eps, sample_eps, 0.0, l2, min, max)


@define("momentum_step_")
def momentum_step_(
    adv: Tensor,
    momentum: Tensor,
    grad: Tensor,
    image: Tensor,
    alpha: float,
    sample_alpha: Tensor | None,
    eps: float,
    sample_eps: Tensor | None,
    decay: float,
    l2: bool,
    min: float,
    max: float,
) -> None:
    _take_step(
        adv, momentum, grad, image, alpha, sample_alpha, eps, sample_eps, decay, l2, min, max
    )
