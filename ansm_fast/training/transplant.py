"""Noise of one image in another."""

from __future__ import annotations

import numpy as np

from ansm_fast.images.photograph import Image


def transplant(rng: np.random.Generator, attacked: Image, original: Image, share: float) -> Image:
    """Give a share of the batch the noise of another image, mirrored and scaled by 0.5 to 1.5.

    Noise that was made for another image says nothing about this one's mask: what is found under
    it was found by the traces of the forgery. It also multiplies the cache.
    """
    if share <= 0 or len(attacked) < 2:
        return attacked
    noise = attacked.astype(np.int16) - original
    result = attacked.copy()
    for index in np.flatnonzero(rng.random(len(attacked)) < share):
        donor = noise[(index + int(rng.integers(1, len(attacked)))) % len(attacked)]
        donor = donor[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))] * rng.uniform(0.5, 1.5)
        moved = original[index] + np.rint(donor)
        result[index] = np.clip(moved, 0, 255).astype(np.uint8)
    return result
