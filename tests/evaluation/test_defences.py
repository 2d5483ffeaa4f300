from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
import torch

from ansm_fast.errors import InputError
from ansm_fast.evaluation import DEFENCES, Defence, make_defence, make_defences
from ansm_fast.evaluation.defences import title, weights_identity
from ansm_fast.evaluation.differentiable import straight_through
from ansm_fast.images.tensors import to_tensor
from ansm_fast.models import ANSM

PLAIN = ("jpeg", "median", "bit-depth", "gaussian", "tv")


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


@pytest.fixture
def ansm() -> ANSM:
    torch.manual_seed(0)
    ansm = ANSM()
    torch.nn.init.normal_(ansm.head.weight, std=0.5)
    return ansm.eval()


@pytest.mark.parametrize("name", PLAIN)
def test_shape_type_and_channels_stay(name, image) -> None:
    before, defence = image.copy(), make_defence(name)
    changed = defence(image)
    assert changed.shape == image.shape and changed.dtype == np.uint8
    assert not np.array_equal(changed, image) and np.array_equal(image, before)
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    assert defence(red)[..., 0].mean() > 150 and defence(red)[..., 2].mean() < 30
    assert np.array_equal(make_defence("none")(image), image)


def test_jpeg_is_quality_75_and_median_is_three_by_three(image) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, 75]
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]
    expected = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.array_equal(make_defence("jpeg")(image), expected)
    found = make_defence("median")(image)
    for row, column in ((1, 1), (12, 20), (22, 30)):
        window = image[row - 1 : row + 2, column - 1 : column + 2].reshape(9, 3)
        assert found[row, column].tolist() == np.median(window, axis=0).tolist()


def test_bit_depth_keeps_sixteen_levels(image) -> None:
    levels = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2)
    found = make_defence("bit-depth")(levels)
    assert len(np.unique(found)) == 16 and found.min() == 0 and found.max() == 255
    assert np.abs(found.astype(int) - levels).max() <= 9
    assert np.array_equal(make_defence("bit-depth")(found), found)


def test_gaussian_blur_of_a_point_is_its_window() -> None:
    point = np.zeros((21, 21, 3), np.uint8)
    point[10, 10] = 255
    found = make_defence("gaussian")(point)[10, 10, 0] / 255
    window = np.exp(-(np.arange(-10, 11) ** 2) / 2)
    assert found == pytest.approx((1 / window.sum()) ** 2, abs=0.004)


def test_total_variation_smooths_noise_and_keeps_an_edge() -> None:
    clean = np.full((48, 48, 3), 60, np.uint8)
    clean[:, 24:] = 190
    noise = np.random.default_rng(0).normal(0, 12, clean.shape)
    noisy = np.clip(clean + noise, 0, 255).astype(np.uint8)
    found = make_defence("tv")(noisy).astype(float)
    assert found[:, :20].std() < noisy[:, :20].std() / 4
    assert found[:, 27:].mean() - found[:, :21].mean() > 110


def test_total_variation_names_the_extra_that_is_missing(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.restoration", None)
    with pytest.raises(InputError, match=r"ansm-fast\[evaluate\]"):
        make_defence("tv")


def test_the_ansm_defence_is_within_its_budget(image, ansm) -> None:
    shift = make_defence("ansm", ansm)(image).astype(int) - image
    assert 0 < np.abs(shift).max() <= 8
    with pytest.raises(InputError, match="needs weights"):
        make_defence("ansm", None)
    with pytest.raises(InputError, match="defences must be of"):
        make_defence("prayer", None)


def test_several_ansms_are_columns_of_their_own(ansm) -> None:
    other = ANSM().eval()
    found = make_defences(["none", "ansm", "jpeg"], {"base": ansm, "robust": other})
    assert [one.name for one in found] == ["none", "ansm:base", "ansm:robust", "jpeg"]
    assert [one.title for one in found][1:3] == ["ANSM base", "ANSM robust"]
    assert len({one.identity for one in found}) == 4
    assert [one.name for one in make_defences(["ansm"], ansm)] == ["ansm"]
    assert [one.name for one in make_defences(["ansm"], {"": ansm})] == ["ansm"]
    assert title("my own") == "my own"


def test_identities_follow_the_weights(ansm) -> None:
    before = make_defence("ansm", ansm).identity, weights_identity(ansm)
    assert before == (make_defence("ansm", ansm).identity, weights_identity(ansm))
    with torch.no_grad():
        ansm.head.weight += 1e-3
    assert make_defence("ansm", ansm).identity != before[0]
    assert weights_identity(ansm) != before[1]


@pytest.mark.parametrize("name", DEFENCES)
def test_what_an_attacker_differentiates_is_the_defence(name, image, ansm) -> None:
    """Forward the real defence within a grey level, backward a gradient at every pixel."""
    defence = make_defence(name, ansm)
    leaf = to_tensor(image[None]).requires_grad_(True)
    defended = defence.differentiable(leaf)
    expected = to_tensor(defence(image)[None])
    rounding = 1.01 / 255 if name in ("gaussian", "ansm") else 1e-6
    assert (defended - expected).abs().max() <= rounding
    defended.square().sum().backward()
    assert leaf.grad is not None and bool(leaf.grad.abs().gt(0).float().mean() > 0.9)


def test_the_gradient_of_the_blur_is_its_own(image) -> None:
    leaf = to_tensor(image[None, :14, :14]).double().requires_grad_(True)
    assert torch.autograd.gradcheck(make_defence("gaussian").differentiable, leaf)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 40), (4, 4)])
@pytest.mark.parametrize("name", PLAIN)
def test_images_smaller_than_a_window(name, size) -> None:
    small = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    defence = make_defence(name)
    leaf = to_tensor(small[None]).requires_grad_(True)
    defended = defence.differentiable(leaf)
    assert (defended - to_tensor(defence(small)[None])).abs().max() <= 1.01 / 255
    defended.sum().backward()
    assert leaf.grad is not None and bool(leaf.grad.isfinite().all())


def test_straight_through_rounds_to_the_image_that_is_defended() -> None:
    seen: list[np.ndarray] = []

    def apply(image: np.ndarray) -> np.ndarray:
        seen.append(image)
        return 255 - image

    leaf = torch.full((2, 3, 4, 5), 0.2004).requires_grad_(True)
    defended = straight_through(apply)(leaf)
    assert [one.shape for one in seen] == [(4, 5, 3)] * 2 and int(seen[0][0, 0, 0]) == 51
    assert defended.detach().numpy() == pytest.approx(204 / 255)
    defended.sum().backward()
    assert leaf.grad is not None and bool((leaf.grad == 1).all())


def test_the_gradient_may_be_that_of_a_function_near_by() -> None:
    leaf = torch.rand(1, 3, 4, 5).requires_grad_(True)
    function = straight_through(lambda image: image, near=lambda image: 3 * image)
    assert (function(leaf) - leaf).abs().max() <= 0.51 / 255
    function(leaf).sum().backward()
    assert leaf.grad is not None and bool((leaf.grad == 3).all())


def test_a_defence_of_ones_own() -> None:
    mine = Defence("flip", lambda image: image[:, ::-1].copy(), "flip 1")
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert np.array_equal(mine(mine(image)), image) and mine.title == "flip"
