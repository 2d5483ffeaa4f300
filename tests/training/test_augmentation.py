from __future__ import annotations

import numpy as np
import pytest

from ansm_fast.training.augmentation import augmented_crop
from ansm_fast.training.run_config import AugmentationConfig

NOTHING = AugmentationConfig(noise_share=0)


@pytest.fixture
def forgery() -> tuple[np.ndarray, np.ndarray]:
    """A flat image with a brighter square; the mask can be read from the image."""
    image, mask = np.full((96, 96, 3), 60, np.uint8), np.zeros((96, 96), bool)
    mask[30:70, 40:80] = True
    image[mask] = 180
    return image, mask


def test_without_augmentation_the_crop_is_a_cut_on_the_even_grid() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
    mask = image[..., 0] > 127
    for seed in range(20):
        cut, part = augmented_crop(np.random.default_rng(seed), image, mask, 32, NOTHING)
        places = [
            (y, x)
            for y in range(0, 65, 2)
            for x in range(0, 65, 2)
            if np.array_equal(cut, image[y : y + 32, x : x + 32])
        ]
        assert len(places) == 1 and np.array_equal(part, cut[..., 0] > 127)


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.3, 2.0])
def test_the_mask_follows_its_image_through_resizing(forgery, scale) -> None:
    image, mask = forgery
    settings = AugmentationConfig(resize_share=1, resize_scale=(scale, scale), noise_share=0)
    areas = []
    for seed in range(20):
        cut, part = augmented_crop(np.random.default_rng(seed), image, mask, 48, settings)
        assert cut.shape == (48, 48, 3) and part.shape == (48, 48)
        assert np.mean((cut[..., 0] > 120) != part) < 0.02
        areas.append(part.sum())
    # A crop of 96 x 96 pixels at half the size shows the whole square, a quarter of its area.
    if scale == 0.5:
        assert all(abs(area - 400) < 45 for area in areas)


def test_compression_and_noise_change_the_image_and_never_the_mask(forgery) -> None:
    image, mask = forgery
    settings = AugmentationConfig(noise_share=1, noise_sigma=8, jpeg_share=1, jpeg_quality=(50, 60))
    cut, part = augmented_crop(np.random.default_rng(3), image, mask, 48, settings)
    plain, same = augmented_crop(np.random.default_rng(3), image, mask, 48, NOTHING)
    assert np.array_equal(part, same) and not np.array_equal(cut, plain)
    assert np.abs(cut.astype(int) - plain).mean() < 20
