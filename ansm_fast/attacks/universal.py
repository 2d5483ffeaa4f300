"""Universal noise: one tile for all images, which therefore says nothing about any of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ansm_fast.attacks.budget import radius, whole_levels
from ansm_fast.attacks.checks import LocalizerFunction, check_counts, check_image
from ansm_fast.attacks.objectives import Objective
from ansm_fast.attacks.query import Victim, find_goal
from ansm_fast.attacks.victim import leaves_victim_as_found
from ansm_fast.ops import clamp_project, pgd_step_
from ansm_fast.ops.checks import check_floating
from ansm_fast.ops.value_range import value_range

TILE = 64

Batches = Tensor | Sequence[Tensor]


def spread(tile: Tensor, size: Sequence[int]) -> Tensor:
    """Repeat a tile (C, S, S) to (1, C, height, width), cut off at the right and the bottom."""
    height, width = size
    side = tile.shape[-1]
    repeats = (1, -(-height // side), -(-width // side))
    return tile.repeat(repeats)[None, :, :height, :width]


def _gather(gradient: Tensor, side: int) -> Tensor:
    """The transpose of ``spread``, summed over the batch: (B, C, H, W) to (C, side, side)."""
    height, width = gradient.shape[2:]
    if not gradient.numel():
        return gradient.new_zeros((gradient.shape[1], side, side))
    whole = torch.nn.functional.pad(gradient.sum(0), (0, -width % side, 0, -height % side))
    channels = whole.shape[0]
    return whole.view(channels, -1, side, whole.shape[-1] // side, side).sum((1, 3))


@leaves_victim_as_found
def universal_noise(
    localizer: LocalizerFunction,
    images: Batches,
    masks: Batches,
    eps: float,
    *,
    steps: int = 20,
    alpha: float | None = None,
    size: int = TILE,
    objective: Objective = "untargeted",
    wrong_masks: Batches | None = None,
    norm: str = "linf",
    seed: int = 0,
    eot: int = 1,
) -> Tensor:
    """Fit a tile (C, size, size) of noise in whole grey levels (arXiv 1610.08401, made by PGD).

    Begins at random; each of the ``steps`` steps goes along the gradient summed over all images.

    Args:
        images, masks, wrong_masks: (B, 3, H, W) and (B, 1, H, W), or lists of such batches, one
            size a batch. wrong_masks are for the objective "wrong-mask".
        eps: for "linf" the bound of every value, for "l2" of the tile's root mean square.
        alpha: step size in the units of eps; by default eps/4, at least eps/steps.
        seed: of the random start.
        objective, norm, eot: as of ``pgd``.

    Raises:
        ValueError: no image, size < 1, or as ``pgd``. TypeError: eps is no number.
    """
    batches = _pairs(images, masks, wrong_masks)
    if not batches:
        raise ValueError("images must hold an image, got none")
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"size must be a whole number >= 1, got {size!r}")
    check_counts(eps, steps, eot, norm)
    victim = Victim(localizer, eot, len(batches))
    pictures = [check_image(one) for one, *_ in batches]
    goals = [
        find_goal(victim, image, mask, objective, wrong)
        for image, (_, mask, wrong) in zip(pictures, batches, strict=True)
    ]
    first = pictures[0]
    values = first.shape[1] * size * size
    bound = float(radius(eps, norm, values))
    step = float(radius(max(eps / 4, eps / steps) if alpha is None else alpha, norm, values))
    start = torch.rand(
        (1, first.shape[1], size, size), generator=torch.Generator().manual_seed(seed)
    )
    zero = torch.zeros_like(start).to(first)
    tile = clamp_project(zero, (2 * start.to(first) - 1) * eps, bound, norm=norm, min=-1, max=1)
    for _ in range(steps):
        total = torch.zeros_like(tile)
        for image, goal in zip(pictures, goals, strict=True):
            moved = image + spread(tile[0], image.shape[2:])
            gradient, _ = victim.gradient(moved.clamp(0, 1), goal.losses)
            # Where the sum was clamped the tile moves nothing.
            total += _gather(gradient * ((moved >= 0) & (moved <= 1)), size)
        tile = pgd_step_(tile, total, zero, step, bound, norm=norm, min=-1, max=1)
    victim.finish()
    return whole_levels(tile * 255, eps, norm)[0] / 255


def apply_universal(image: Tensor, tile: Tensor) -> Tensor:
    """Add the repeated tile (C, S, S) to ``image`` (B, C, H, W) in [0, 1]; clamped to [0, 1].

    Raises:
        TypeError: the tile is no floating-point tensor. ValueError: it has another shape, or values
            outside [-1, 1].
    """
    image = check_image(image)
    check_floating("tile", tile)
    if tile.dim() != 3 or tile.shape[0] != image.shape[1] or tile.shape[1] != tile.shape[2]:
        raise ValueError(f"tile must be ({image.shape[1]}, S, S), got {tuple(tile.shape)}")
    found = value_range(tile)
    if found is not None and not (found[0] >= -1 and found[1] <= 1):
        raise ValueError(
            f"tile must be in [-1, 1], got values from {found[0]:.6g} to {found[1]:.6g}; noise of "
            "8 bits is divided by 255"
        )
    return (image + spread(tile.to(image), image.shape[2:])).clamp(0, 1)


def _pairs(
    images: Batches, masks: Batches, wrong_masks: Batches | None
) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    def listed(batches: Batches) -> list[Tensor]:
        return [batches] if isinstance(batches, Tensor) else list(batches)

    first, second = listed(images), listed(masks)
    third: Sequence[Tensor | None]
    third = [None] * len(first) if wrong_masks is None else listed(wrong_masks)
    if not len(first) == len(second) == len(third):
        raise ValueError(
            f"images, masks and wrong_masks must hold as many batches, got {len(first)}, "
            f"{len(second)} and {len(third)}"
        )
    return list(zip(first, second, third, strict=True))
