"""Processing that leaves forensic traces: compression, noise, blur, resampling, tone."""

from __future__ import annotations

import cv2
import numpy as np

from ansm_fast.images.photograph import Image

_INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


def jpeg(image: Image, quality: int) -> Image:
    """Compress to JPEG in memory and decode again."""
    encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[:, :, ::-1])


def gaussian_noise(rng: np.random.Generator, image: Image, sigma: float) -> Image:
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def blur(image: Image, sigma: float) -> Image:
    return cv2.GaussianBlur(image, (0, 0), sigma)


def resample(rng: np.random.Generator, image: Image, scale: float) -> Image:
    method = _INTERPOLATIONS[int(rng.integers(len(_INTERPOLATIONS)))]
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=method)


def tone(rng: np.random.Generator, image: Image) -> Image:
    """Give a different exposure and white balance, as donors from another camera have."""
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.94, 1.06, 3)
    gamma = rng.uniform(0.85, 1.18)
    levels = np.linspace(0, 1, 256)[:, None] ** gamma * gain
    table = np.clip(np.rint(levels * 255), 0, 255).astype(np.uint8)
    return cv2.LUT(image, table[:, None, :])


def random_scale(rng: np.random.Generator) -> float:
    """Draw a resampling factor that is clearly not 1: 0.5 to 0.75 or 1.3 to 2."""
    return float(rng.uniform(0.5, 0.75) if rng.random() < 0.3 else rng.uniform(1.3, 2.0))


def random_traces(rng: np.random.Generator, image: Image) -> tuple[Image, list[str]]:
    """Apply one or two traces that the host does not have; returns the image and their names.

    The traces are strong on purpose: noise of the size of the attacks (eps 4/255) wipes out weak
    ones, and no defence can bring back what is no longer in the image.
    """
    count = 1 if rng.random() < 0.5 else 2
    names, shares = ["resample", "blur", "noise", "jpeg"], [0.3, 0.25, 0.25, 0.2]
    chosen = rng.choice(names, count, replace=False, p=shares).tolist()
    if "resample" in chosen:
        image = resample(rng, image, random_scale(rng))
    if "blur" in chosen:
        image = blur(image, rng.uniform(0.9, 2.0))
    if "noise" in chosen:
        image = gaussian_noise(rng, image, rng.uniform(3.0, 9.0))
    if "jpeg" in chosen:
        image = jpeg(image, int(rng.integers(20, 61)))
    return image, chosen
