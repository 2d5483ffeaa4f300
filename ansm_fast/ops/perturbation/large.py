"""Projections and steps on more than 2**31 elements."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ansm_fast.ops.cases import BRAIN, HALF, Call, with_end
from ansm_fast.ops.large import PART, starts, uniform
from ansm_fast.ops.perturbation import clamp_project, pgd_step_


def calls(elements: int) -> Iterator[Call]:
    shape = (1, 3, elements // 3 // 4096, 4096)
    image, adv = (with_end(0.5, *shape) for _ in range(2))
    noise, limits = with_end(2.0, *shape), (0.25, None, False, 0.0, 1.0)
    eight = torch.ones(8)
    arguments = (adv, with_end(2.0, *shape), image, 0.5, None, *limits)
    yield Call("pgd_step_", "linf", arguments, last=lambda: 0.75 * eight)
    yield Call("clamp_project", "linf", (image, noise, *limits), last=lambda: 0.75 * eight)
    gradients = (noise, image, with_end(0.125, *shape), *limits, True, True)
    yield Call("clamp_project_backward", "linf", gradients, last=lambda: 2 * eight)
    step = (adv, with_end(1.0, *shape), noise, image)
    yield Call("momentum_step_", "l2", (*step, 0.5, None, 0.25, None, 1.0, True, 0.0, 1.0))


def project(backend: str, device: torch.device, elements: int) -> str | None:
    image, noise = (uniform(elements, device, HALF, seed) for seed in (1, 2))
    found = clamp_project(image.view(1, -1), noise.view(1, -1), 0.0625, backend=backend)
    for start in starts(elements):
        part = slice(start, start + PART)
        expected = clamp_project(
            image[part].view(1, -1).clone(), noise[part].view(1, -1).clone(), 0.0625,
            backend=backend,
        )  # fmt: skip
        if not torch.equal(found[:, part], expected):
            return f"elements from {start} differ"
    return None


def step(backend: str, device: torch.device, elements: int) -> str | None:
    image, grad = (uniform(elements, device, BRAIN, seed) for seed in (1, 2))
    grad -= 0.5
    adv = image.clone()
    whole = [x.view(1, -1) for x in (adv, grad, image)]
    pgd_step_(whole[0], whole[1], whole[2], 0.25, 0.5, backend=backend)
    for start in starts(elements):
        part = slice(start, start + PART)
        a, g, x = (t[part].view(1, -1).clone() for t in (image, grad, image))
        pgd_step_(a, g, x, 0.25, 0.5, backend=backend)
        if not torch.equal(adv[part].view(1, -1), a):
            return f"elements from {start} differ"
    return None
