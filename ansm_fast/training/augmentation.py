"""What a training image goes through after it was forged: crop, resizing, noise, compression."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ansm_fast.data.synthesis.traces import gaussian_noise, jpeg
from ansm_fast.images.photograph import Image
from ansm_fast.training.batches import crop_window
from ansm_fast.training.run_config import AugmentationConfig

_INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


def _resized_crop(
    rng: np.random.Generator, image: Image, mask: NDArray[np.bool_], crop: int, scale: float
) -> tuple[Image, NDArray[np.bool_]]:
    """A crop x crop cut of ``image`` brought to ``scale``, or as near to it as the image allows."""
    side = min(round(crop / scale), *image.shape[:2])
    rows, columns = crop_window(rng, (image.shape[0], image.shape[1]), side)
    method = _INTERPOLATIONS[int(rng.integers(len(_INTERPOLATIONS)))]
    resized = cv2.resize(image[rows, columns], (crop, crop), interpolation=method)
    part = mask[rows, columns].astype(np.uint8) * 255
    return resized, cv2.resize(part, (crop, crop), interpolation=cv2.INTER_LINEAR) > 127


def augmented_crop(
    rng: np.random.Generator,
    image: Image,
    mask: NDArray[np.bool_],
    crop: int,
    augmentation: AugmentationConfig,
) -> tuple[Image, NDArray[np.bool_]]:
    """Cut a random crop x crop piece of a forgery and its mask; ``augmentation`` happens by
    chance."""
    if rng.random() < augmentation.resize_share:
        scale = rng.uniform(*augmentation.resize_scale)
        image, mask = _resized_crop(rng, image, mask, crop, scale)
    else:
        rows, columns = crop_window(rng, (image.shape[0], image.shape[1]), crop)
        image, mask = image[rows, columns], mask[rows, columns]
    if rng.random() < augmentation.noise_share:
        image = gaussian_noise(rng, image, rng.uniform(0, augmentation.noise_sigma))
    if rng.random() < augmentation.jpeg_share:
        low, high = augmentation.jpeg_quality
        image = jpeg(image, int(rng.integers(low, high + 1)))
    return image, mask
