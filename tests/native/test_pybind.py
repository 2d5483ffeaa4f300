"""The torch-free kernels from NumPy; CTest builds the module and names its folder."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

FOLDER = os.environ.get("ANSM_FAST_KERNELS")
if FOLDER:
    sys.path.insert(0, FOLDER)
    import ansm_fast_kernels as kernels

pytestmark = pytest.mark.skipif(
    not FOLDER, reason="the pybind11 module is built by cmake with -DANSM_FAST_PYTHON=ON"
)


def softmax(values: np.ndarray) -> np.ndarray:
    e = np.exp(values - values.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("alpha", [0.0, 0.01])
def test_channelwise_kl_and_its_gradient(alpha) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 33)), rng.normal(size=(5, 33))

    def kl(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        p, q = softmax(x / 2), softmax(y / 2)
        return (p * np.log((p + alpha) / (q + alpha))).sum(1)

    found, to_a, to_b = kernels.channelwise_kl(a, b, temperature=2.0, alpha=alpha)
    np.testing.assert_allclose(found, kl(a, b), rtol=1e-12)
    step, nudge = 1e-6, np.zeros_like(a)
    nudge[2, 7] = step
    slope_a = (kl(a + nudge, b) - kl(a - nudge, b))[2] / (2 * step)
    slope_b = (kl(a, b + nudge) - kl(a, b - nudge))[2] / (2 * step)
    np.testing.assert_allclose([to_a[2, 7], to_b[2, 7]], [slope_a, slope_b], rtol=1e-6)


def test_dual_mask_sums() -> None:
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=1000) * 5, (rng.random(1000) > 0.5).astype(float)
    p = 1 / (1 + np.exp(-z))
    bce = -(2 * y * np.log(p) + (1 - y) * np.log(1 - p)).sum()
    np.testing.assert_allclose(
        kernels.dual_mask_sums(z, y, pos_weight=2.0),
        [bce, (p * y).sum(), p.sum(), y.sum(), 1000],
        rtol=1e-10,
    )


def test_clamp_project() -> None:
    rng = np.random.default_rng(0)
    image, noise = rng.random(500), rng.normal(size=500)
    np.testing.assert_allclose(
        kernels.clamp_project(image, noise, 0.1), (image + noise.clip(-0.1, 0.1)).clip(0, 1)
    )
    with pytest.raises(ValueError, match="same size"):
        kernels.clamp_project(image, noise[1:], 0.1)
