"""How much an image was changed: PSNR and SSIM of two 8-bit images."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ansm_fast.images.photograph import Image

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def _check(image: Image, other: Image) -> None:
    if image.shape != other.shape or image.dtype != np.uint8 or other.dtype != np.uint8:
        raise ValueError(
            f"both images must be uint8 of one shape, got {image.dtype} {image.shape} "
            f"and {other.dtype} {other.shape}"
        )


def psnr(image: Image, other: Image) -> float:
    """Compute ``10 log10(255^2 / MSE)`` in dB over all pixels and channels; infinite if equal."""
    _check(image, other)
    difference = cv2.absdiff(image, other).ravel().astype(np.float32)
    error = float(np.dot(difference, difference)) / difference.size
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def _blur(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return cv2.GaussianBlur(values, (_WINDOW, _WINDOW), _SIGMA, borderType=cv2.BORDER_REFLECT_101)


def ssim(image: Image, other: Image) -> float:
    """Compute structural similarity (Wang et al. 2004), in [-1, 1], 1 if nothing differs.

    ``(2 m_x m_y + c1)(2 s_xy + c2) / ((m_x^2 + m_y^2 + c1)(s_x^2 + s_y^2 + c2))`` with Gaussian
    windows of 11 pixels (sigma 1.5), c1 = (0.01 * 255)^2, c2 = (0.03 * 255)^2; the mean over all
    pixels and channels, the image mirrored at its edges.
    """
    _check(image, other)
    if np.array_equal(image, other):
        return 1.0
    x, y = image.astype(np.float32), other.astype(np.float32)
    mean_x, mean_y = _blur(x), _blur(y)
    product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance = _blur(x * y) - product
    variances = _blur(x * x + y * y) - squares
    similarity = ((2 * product + _C1) * (2 * covariance + _C2)) / (
        (squares + _C1) * (variances + _C2)
    )
    return float(similarity.mean(dtype=np.float64))


def image_quality(image: Image, other: Image) -> dict[str, float]:
    """Compute ``psnr`` and ``ssim`` of two images (H, W, 3)."""
    return {"psnr": psnr(image, other), "ssim": ssim(image, other)}
