from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ansm_fast.evaluation.quality import image_quality, psnr, ssim


@pytest.mark.parametrize("size", [(40, 48), (11, 11), (64, 33)])
@pytest.mark.parametrize("noise", [1, 8, 60])
def test_against_scikit_image(size, noise) -> None:
    rng = np.random.default_rng(noise)
    ramp = np.linspace(0, 255, size[1])[None, :, None] * np.ones((*size, 3))
    image = ramp.astype(np.uint8)
    other = np.clip(ramp + rng.normal(0, noise, ramp.shape), 0, 255).astype(np.uint8)
    pair = [one.astype(np.float64) for one in (image, other)]
    expected = peak_signal_noise_ratio(*pair, data_range=255.0)
    assert psnr(image, other) == pytest.approx(expected, abs=1e-4)
    # It leaves out the half window at the edges, which is ours mirrored.
    mirrored = [np.pad(one, ((5, 5), (5, 5), (0, 0)), mode="reflect") for one in pair]
    expected = structural_similarity(
        *mirrored, data_range=255.0, channel_axis=2, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(image, other) == pytest.approx(expected, abs=2e-5)


def test_closed_forms() -> None:
    image = np.full((20, 20, 3), 100, np.uint8)
    assert image_quality(image, image) == {"psnr": math.inf, "ssim": 1.0}
    assert psnr(image, image + 1) == pytest.approx(20 * math.log10(255))
    # Flat images: only the luminance term is left.
    c1 = (0.01 * 255) ** 2
    assert ssim(image, image + 50) == pytest.approx(
        (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1), abs=1e-4
    )
    small = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert ssim(small, small[::-1].copy()) < ssim(small, small) == 1.0


def test_shapes_and_types_must_agree() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="uint8 of one shape"):
        psnr(image, image[:2])
    with pytest.raises(ValueError, match="uint8 of one shape"):
        ssim(image, image.astype(np.float32))
