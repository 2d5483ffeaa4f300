"""The differentiable JPEG does what libjpeg does, to a part of what compression changes."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from ansm_fast.data.synthesis.traces import jpeg
from ansm_fast.models import ANSM, ANSMConfig
from ansm_fast.models.jpeg import JPEGResidual


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """Smooth colors with fine noise, as photographs have; 8 bits."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 226, (10, 12, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (96, 80), interpolation=cv2.INTER_CUBIC).astype(np.float64)
    return (image + rng.normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8)


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("quality", [30, 50, 75, 90])
def test_close_to_libjpeg(photograph, quality) -> None:
    image = tensor(photograph)
    ours = (image + JPEGResidual(quality)(image))[0].permute(1, 2, 0).numpy() * 255
    theirs = jpeg(photograph, quality).astype(float)
    changed = np.abs(theirs - photograph).mean()
    assert np.abs(ours - theirs).mean() < 0.3 * changed
    assert np.median(np.abs(ours - theirs)) < 1.01
    assert np.abs(ours - ours.round()).max() < 1e-3
    assert np.abs(ours - photograph).mean() == pytest.approx(changed, rel=0.15)


def test_coarser_steps_change_more(photograph) -> None:
    image = tensor(photograph)
    changes = [float(JPEGResidual(q)(image).square().mean()) for q in (10, 40, 75, 95, 100)]
    assert changes == sorted(changes, reverse=True)


def test_flat_images_keep_their_color() -> None:
    image = torch.full((1, 3, 32, 48), 200 / 255)
    assert JPEGResidual(75)(image).abs().max() <= 1.01 / 255


def test_a_tile_on_the_grid_changes_as_the_whole_does(photograph) -> None:
    """Ties of rounding must fall alike, whatever the order of sums."""
    image = tensor(photograph).round(decimals=2)
    module = JPEGResidual(75)
    whole, tile = module(image), module(image[..., 16:64, 16:80].contiguous())
    # Colors are upsampled with their neighbors: one pixel of the tile's border sees others.
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(whole[..., 16:64, 16:80][inside], tile[inside], atol=1e-5, rtol=0)


def test_the_gradient_passes_the_rounding(photograph) -> None:
    image = tensor(photograph).requires_grad_(True)
    decoded = image + JPEGResidual(75)(image)
    decoded[..., 20:30, 20:30].sum().backward()
    assert image.grad is not None and image.grad.isfinite().all()
    inside = image.grad[..., 20:30, 20:30].sum() / image.grad.sum()
    assert 0.9 < float(image.grad.sum()) / 300 < 1.1 and inside > 0.5


def test_autocast_does_not_coarsen_it(photograph) -> None:
    image, module = tensor(photograph), JPEGResidual(75)
    plain = module(image)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(image), plain)


def test_blur_before_compression(photograph) -> None:
    """Against OpenCV's separable filter; kept at the border, where pixels are repeated."""
    image = tensor(photograph)
    weights = np.array([0.1, 0.8, 0.1])
    planes = image[0].permute(1, 2, 0).numpy()
    blurred = cv2.sepFilter2D(planes, -1, weights, weights, borderType=cv2.BORDER_REPLICATE)
    blurred = torch.from_numpy(blurred).permute(2, 0, 1)[None]
    blurred = (blurred * 255 + 1e-4).round() / 255
    expected = blurred + JPEGResidual(80)(blurred) - image
    # A blurred value on a half may be rounded the other way, and a coefficient with it.
    difference = (JPEGResidual(80, 0.1)(image) - expected).abs()
    assert (difference < 0.5 / 255).float().mean() > 0.95
    assert ((JPEGResidual(80)(image) - expected).abs() < 0.5 / 255).float().mean() < 0.6


def test_a_tile_with_its_surroundings_is_blurred_alike(photograph) -> None:
    image, module = tensor(photograph), JPEGResidual(80, 0.05)
    whole, tile = module(image), module(image[..., 16:64, 16:80].contiguous())
    # The tile's border repeats its own pixels; a block there is another one.
    inside = (..., slice(18, -18), slice(18, -18))
    torch.testing.assert_close(whole[..., 16:64, 16:80][inside], tile[inside], atol=1e-5, rtol=0)


@pytest.mark.parametrize("blur", [-0.01, 0.34, float("nan")])
def test_bad_blurs(blur) -> None:
    with pytest.raises(ValueError, match=r"blur must be in \[0, 1/3\]"):
        JPEGResidual(75, blur)
    with pytest.raises(ValueError, match=r"jpeg_blur must be in \[0, 1/3\]"):
        ANSMConfig(jpeg_quality=75, jpeg_blur=blur)


@pytest.mark.parametrize("quality", [0, 101])
def test_bad_qualities(quality) -> None:
    with pytest.raises(ValueError, match="quality must be in 1 to 100"):
        JPEGResidual(quality)


@pytest.mark.parametrize("detail", [0, 8])
@pytest.mark.parametrize("size", [(16, 16), (17, 33), (1, 1)])
def test_an_untrained_ansm_begins_at_compression(size, detail) -> None:
    ansm = ANSM(ANSMConfig(detail=detail, jpeg_quality=75)).eval()
    image = torch.rand(2, 3, *size)
    with torch.no_grad():
        perturbation = ansm(image)
    assert perturbation.shape == image.shape and 0 < perturbation.abs().max() <= ansm.eps_d
    if size == (16, 16):
        expected = JPEGResidual(75)(image).clamp(-ansm.eps_d, ansm.eps_d)
        torch.testing.assert_close(perturbation, expected)


@pytest.mark.parametrize("detail", [0, 8])
def test_the_gate_leaves_all_or_nothing_of_compression(detail) -> None:
    ansm = ANSM(ANSMConfig(detail=detail, jpeg_quality=75)).eval()
    image = torch.rand(1, 3, 32, 32)
    compression = JPEGResidual(75)(image).clamp(-ansm.eps_d, ansm.eps_d)
    assert ansm.head.bias is not None
    for bias, expected in ((30.0, compression), (-30.0, torch.zeros(()))):
        with torch.no_grad():
            ansm.head.bias[0] = bias
            torch.testing.assert_close(ansm(image), expected.expand_as(image))


def test_the_gate_is_a_decision_about_a_region() -> None:
    """One value of the head moves the gate within 15 half-size pixels, by a 961st of its own."""
    ansm = ANSM(ANSMConfig(jpeg_quality=75)).eval()
    image = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        features = ansm.features(image)
        plain = ansm.perturbation(features, (128, 128))
        head = ansm.head
        ansm.head = torch.nn.Identity()  # type: ignore[assignment]
        values = torch.zeros(1, head.out_channels, 64, 64)
        values[..., 32, 32] = -961.0
        features = torch.cat([values, features], 1)
        moved = ansm.perturbation(features, (128, 128))
    shut = 1.2 / (1 + math.exp(-2 + 4))
    within = slice(2 * (32 - 15), 2 * (32 + 15 + 1))
    expected = plain.clone()
    expected[..., within, within] *= shut
    torch.testing.assert_close(moved, expected)


@pytest.mark.parametrize("training", [True, False])
def test_a_gate_that_is_wholly_open_has_a_gradient_in_training_alone(training) -> None:
    """Or training would stand still there; in eval mode the gradient is the true one."""
    ansm = ANSM(ANSMConfig(jpeg_quality=75)).train(training)
    assert ansm.head.bias is not None
    with torch.no_grad():
        ansm.head.bias[0] = 0.25  # logits 3: the sigmoid is at 0.95
    perturbation = ansm(torch.rand(1, 3, 32, 32))
    perturbation.abs().mean().backward()
    smooth = 1 / (1 + math.exp(-3))
    slope = 4 * smooth * (1 - smooth) * float(perturbation.detach().abs().mean())
    assert ansm.head.bias.grad is not None
    found = float(ansm.head.bias.grad[0])
    assert found == pytest.approx(slope if training else 0, rel=1e-3, abs=1e-9)


def test_a_correction_has_the_whole_range() -> None:
    ansm = ANSM(ANSMConfig(detail=8, jpeg_quality=75)).eval()
    image = torch.rand(1, 3, 32, 32) * 0.1 + 0.4
    with torch.no_grad():
        assert ansm.head.bias is not None
        for bias in (20.0, -20.0):
            ansm.head.bias[0], ansm.head.bias[1:] = -20.0, bias
            expected = torch.full_like(image, math.copysign(ansm.eps_d, bias))
            torch.testing.assert_close(ansm(image), expected)


def test_the_gate_alone_is_learned_from_compression_too() -> None:
    ansm = ANSM(ANSMConfig(jpeg_quality=75))
    ansm(torch.rand(2, 3, 32, 32)).square().sum().backward()
    assert ansm.head.weight.grad is not None
    assert (ansm.head.weight.grad.abs().amax((0, 2, 3))[-12:] > 0).all()


def test_an_impossible_quality() -> None:
    with pytest.raises(ValueError, match="jpeg_quality must be a whole number from 0 to 100"):
        ANSMConfig(jpeg_quality=101)
