"""Square: a black-box attack that asks for scores alone (arXiv 1912.00049)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ansm_fast.attacks.checks import Budget, LocalizerFunction
from ansm_fast.attacks.objectives import Objective
from ansm_fast.attacks.query import prepare
from ansm_fast.attacks.randomness import Seeds, sample_generators
from ansm_fast.attacks.victim import leaves_victim_as_found
from ansm_fast.ops import clamp_project

# Queries out of 10,000 after which the area of the squares is halved once more.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def square_side(query: int, queries: int, size: tuple[int, int], p: float) -> int:
    """Side of the squares at a query: the paper's schedule, stretched to ``queries``."""
    position = query * 10_000 // queries
    area = p / 2 ** sum(position > mark for mark in _HALVINGS)
    return max(1, min(round((area * size[0] * size[1]) ** 0.5), *size))


@leaves_victim_as_found
def square(
    localizer: LocalizerFunction,
    image: Tensor,
    mask: Tensor,
    *,
    eps: Budget,
    steps: int,
    p: float = 0.8,
    seeds: Seeds | None = None,
    objective: Objective = "untargeted",
    wrong_mask: Tensor | None = None,
    eot: int = 1,
    on_query: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Search at random over squares of noise at the budget's corners, L-inf only.

    Begins with vertical stripes of +-eps; each further query sets one square of a sample's noise to
    +-eps, one sign a channel, and keeps it if the sample's loss grows. Samples of a batch are asked
    about together and decided on apart.

    Args:
        eps: a number or (B,).
        steps: queries a sample, the first one for the stripes.
        p: share of the image's area that the first squares have.
        seeds: of each sample's draws.
        objective, wrong_mask, eot: as of ``pgd``; "own-prediction" costs one more query.
        on_query: called after each query with its number and the best loss of each sample (B,).
    """
    if not 0 < p <= 1:
        raise ValueError(f"p must be in (0, 1], got {p}")
    victim, image, goal = prepare(
        localizer, image, mask, eps=eps, steps=steps, eot=eot, objective=objective,
        wrong_mask=wrong_mask,
    )  # fmt: skip
    if not image.numel():
        return image
    generators = sample_generators(image, seeds)
    report = on_query or (lambda query, best: None)
    height, width = image.shape[2:]
    bound = eps.view(-1, 1, 1, 1) if isinstance(eps, Tensor) else eps
    rows, columns = torch.arange(height).view(-1, 1), torch.arange(width)

    def signs(*shape: int) -> Tensor:
        drawn = [torch.randint(0, 2, shape, generator=generator) for generator in generators]
        return (2 * torch.stack(drawn) - 1).to(image)

    noise = (signs(image.shape[1], 1, width) * bound).expand_as(image).contiguous()
    attacked = clamp_project(image, noise, eps)
    best = victim.scores(attacked, goal.losses)
    report(1, best)
    for query in range(1, steps):
        side = square_side(query, steps, (height, width), p)
        inside = torch.stack(
            [
                _window(rows, generator, height, side) & _window(columns, generator, width, side)
                for generator in generators
            ]
        ).unsqueeze(1)
        value = signs(image.shape[1], 1, 1) * bound
        candidate = torch.where(inside.to(image.device), value, noise)
        moved = clamp_project(image, candidate, eps)
        found = victim.scores(moved, goal.losses)
        better = (found > best).view(-1, 1, 1, 1)
        noise = torch.where(better, candidate, noise)
        attacked = torch.where(better, moved, attacked)
        best = torch.maximum(best, found)
        report(query + 1, best)
    victim.finish()
    return attacked


def _window(positions: Tensor, generator: torch.Generator, size: int, side: int) -> Tensor:
    start = int(torch.randint(0, size - side + 1, (), generator=generator))
    return (positions >= start) & (positions < start + side)
