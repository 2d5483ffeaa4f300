from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from ansm_fast.evaluation.quality import image_quality, psnr, ssim


@pytest.mark.parametrize("size", [(40, 48), (11, 11), (64, 33)])
@pytest.mark.parametrize("noise", [1, 8, 60])
def test_against_torchmetrics(size, noise) -> None:
    rng = np.random.default_rng(noise)
    ramp = np.linspace(0, 255, size[1])[None, :, None] * np.ones((*size, 3))
    image = ramp.astype(np.uint8)
    other = np.clip(ramp + rng.normal(0, noise, ramp.shape), 0, 255).astype(np.uint8)
    pair = [torch.from_numpy(one).permute(2, 0, 1)[None].double() for one in (image, other)]
    expected = float(peak_signal_noise_ratio(*pair, data_range=255.0))
    assert psnr(image, other) == pytest.approx(expected, abs=1e-4)
    expected = float(structural_similarity_index_measure(*pair, data_range=255.0))
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
