"""Random shapes of forged regions."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_ATTEMPTS = 50


def _ellipse(rng: np.random.Generator, size: int, radius: float) -> NDArray[np.uint8]:
    mask = np.zeros((size, size), np.uint8)
    center = rng.uniform(0.2, 0.8, 2) * size
    stretch = np.sqrt(rng.uniform(0.5, 2.0))
    axes = (int(radius * stretch), int(radius / stretch))
    cv2.ellipse(mask, center.astype(int).tolist(), axes, rng.uniform(0, 180), 0, 360, 1, -1)
    return mask


def _polar(
    rng: np.random.Generator, size: int, angles: NDArray[np.float64], radii: NDArray[np.float64]
) -> NDArray[np.uint8]:
    mask = np.zeros((size, size), np.uint8)
    center = rng.uniform(0.2, 0.8, 2) * size
    points = center + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cv2.fillPoly(mask, [points.astype(np.int32)], 1)
    return mask


def _polygon(rng: np.random.Generator, size: int, radius: float) -> NDArray[np.uint8]:
    corners = int(rng.integers(3, 9))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    return _polar(rng, size, angles, radius * rng.uniform(0.8, 1.7, corners))


def _blob(rng: np.random.Generator, size: int, radius: float) -> NDArray[np.uint8]:
    angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radii = np.ones_like(angles)
    for harmonic in range(1, 6):
        amplitude = rng.uniform(-0.35, 0.35) / harmonic
        radii += amplitude * np.cos(harmonic * angles + rng.uniform(0, 2 * np.pi))
    return _polar(rng, size, angles, radius * np.clip(radii, 0.2, 2.0))


def random_region(
    rng: np.random.Generator, size: int, area: tuple[float, float]
) -> NDArray[np.bool_]:
    """Draw a filled ellipse, polygon or smooth blob as a (size, size) bool mask.

    ``area`` is the range of its share of the image, in (0, 1).
    """
    low, high = area
    mask = np.zeros((size, size), np.uint8)
    for _ in range(_ATTEMPTS):
        radius = float(np.sqrt(rng.uniform(low, high) / np.pi)) * size
        draw = (_ellipse, _polygon, _blob)[int(rng.integers(3))]
        mask = draw(rng, size, radius)
        if low <= mask.mean() <= high:
            return mask.astype(bool)
    mask[:] = 0
    side = int(size * np.sqrt((low + high) / 2))
    start = (size - side) // 2
    mask[start : start + side, start : start + side] = 1
    return mask.astype(bool)
