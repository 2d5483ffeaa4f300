"""What happens to photographs that nobody attacks: no answer to "was this image attacked?" may take
it for an attack."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from ansm_fast.data.synthesis.traces import gaussian_noise, jpeg
from ansm_fast.evaluation.defences import Defence
from ansm_fast.images.photograph import Image

Change = Callable[[np.random.Generator, Image], Image]


def _compressed(rng: np.random.Generator, image: Image, quality: int) -> Image:
    return jpeg(image, quality)


def _resized(rng: np.random.Generator, image: Image, scale: float) -> Image:
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=method)


def _noisy(rng: np.random.Generator, image: Image, sigma: float) -> Image:
    return gaussian_noise(rng, image, sigma)


# Name -> title in tables, and the change.
HARMLESS: dict[str, tuple[str, Change]] = {
    **{f"jpeg-{q}": (f"JPEG-{q}", partial(_compressed, quality=q)) for q in (95, 85, 75)},
    **{f"resized-{s}": (f"resized by {s}", partial(_resized, scale=s)) for s in (0.8, 1.25)},
    **{f"noise-{s}": (f"camera noise, σ {s}", partial(_noisy, sigma=s)) for s in (1, 2, 3)},
}
# Of every image that is measured, the unchanged one among them.
VERSIONS = ("none", *HARMLESS)


def harmless_scores(defence: Defence, image: Image, seed: int) -> dict[str, float]:
    """Attack score of an image as it is ("none") and after each harmless change.

    Args:
        defence: one that ``detects``.
        seed: of the camera noise.
    """
    assert defence.detects is not None
    found = {"none": defence.detects(image)[1]}
    for name, (_, change) in HARMLESS.items():
        found[name] = defence.detects(change(np.random.default_rng(seed), image))[1]
    return found
