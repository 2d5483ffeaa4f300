"""Noise of one image in another."""

from __future__ import annotations

import numpy as np

from ansm_fast.images.photograph import Image


def transplant(rng: np.random.Generator, attacked: Image, original: Image, host: Image) -> Image:
    """Return ``host`` with the noise that ``attacked`` has over ``original``, mirrored and scaled
    by 0.5 to 1.5.

    Noise that was made for another image says nothing about this one's mask: what is found under
    it was found by the traces of the forgery.

    Args:
        attacked, original, host: one image each, (H, W, 3).
    """
    noise = attacked.astype(np.int16) - original
    mirrored = noise[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
    return np.clip(host + np.rint(mirrored * rng.uniform(0.5, 1.5)), 0, 255).astype(np.uint8)
