"""Random numbers that belong to a sample: the same alone as in any batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ansm_fast.attacks.checks import Budget, check_image
from ansm_fast.ops import clamp_project
from ansm_fast.ops.checks import check_budget

Seeds = Sequence[Sequence[int]]


def sample_generator(seed: Sequence[int], device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of one sample; ``seed``: whole numbers, such as a seed and a sample's
    id."""
    return torch.Generator(device).manual_seed(hash(tuple(seed)) & 0x7FFF_FFFF_FFFF_FFFF)


def sample_generators(
    image: Tensor, seeds: Seeds | None, device: torch.device | str = "cpu"
) -> list[torch.Generator]:
    """Return one generator a sample; without seeds, of the samples' positions."""
    seeds = [(0, index) for index in range(len(image))] if seeds is None else seeds
    if not isinstance(seeds, Sequence):
        raise TypeError(
            "seeds must be a list with a tuple of whole numbers for each image, got "
            f"{type(seeds).__name__}"
        )
    if len(seeds) != len(image):
        raise ValueError(
            f"seeds must hold one seed for each of {len(image)} images, got {len(seeds)}"
        )
    if not all(isinstance(seed, Sequence | Tensor) for seed in seeds):
        raise TypeError(
            "seeds must hold a tuple of whole numbers for each image, such as (seed, index), got "
            f"{list(seeds)[:4]!r}"
        )
    return [sample_generator(seed, device) for seed in seeds]


def uniform_start(image: Tensor, eps: Budget, seeds: Seeds, norm: str = "linf") -> Tensor:
    """Add uniform noise to ``image`` (B, C, H, W); clamped to [0, 1], one seed a sample.

    For "linf" in [-eps, eps]; for "l2" scaled to ``||noise||_2 = eps``. Drawn where the image is:
    a GPU's numbers are others than a CPU's.
    """
    image = check_image(image)
    check_budget("eps", eps, image)
    noise = torch.empty(image.shape, device=image.device)
    generators = sample_generators(image, seeds, image.device)
    for row, generator in zip(noise, generators, strict=True):
        row.uniform_(-1, 1, generator=generator)
    noise = noise.to(image)
    scale = eps.view(-1, 1, 1, 1) if isinstance(eps, Tensor) else eps
    if norm == "l2":
        noise /= torch.linalg.vector_norm(noise.flatten(1), dim=1).view(-1, 1, 1, 1)
    return clamp_project(image, noise * scale, eps, norm=norm)
