"""Images of every kind in Python: the same kind comes back, defended as the command does it."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import ansm_fast
from ansm_fast.errors import InputError, LocalizerError
from ansm_fast.images.photograph import Photograph
from ansm_fast.inference import Defender, Engine
from ansm_fast.localizers import load_localizer
from ansm_fast.models import ansm_path, load_ansm

SIZE = (37, 50)


@pytest.fixture(scope="module")
def defender() -> Defender:
    return Defender()


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """Noise, for which the gate opens."""
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def truth(pixels: np.ndarray) -> np.ndarray:
    return Engine(load_ansm()).defend([Photograph(np.ascontiguousarray(pixels))])[0].pixels


def test_arrays(defender, photograph, rng) -> None:
    wanted = truth(photograph)
    assert np.abs(wanted.astype(int) - photograph).max() > 0
    assert np.array_equal(defender.defend(photograph), wanted)
    assert np.array_equal(defender.defend(photograph[:, ::-1]), truth(photograph[:, ::-1]))
    alpha = rng.integers(0, 256, (*SIZE, 1), np.uint8)
    both = defender.defend(np.dstack([photograph, alpha]))
    assert np.array_equal(both, np.dstack([wanted, alpha]))
    grey = photograph[:, :, 0]
    assert np.array_equal(defender.defend(grey), truth(grey[:, :, None])[:, :, 0])
    assert defender.defend(grey[:, :, None]).shape == (*SIZE, 1)
    deep = photograph.astype(np.uint16) * 257
    assert np.array_equal(defender.defend(deep), truth(deep))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_pil_images(defender, photograph, mode) -> None:
    plain = Image.fromarray(photograph)
    image = Image.fromarray(photograph[:, :, 0].astype(np.uint16)) if mode == "I;16" else None
    image = image or plain.convert(mode)
    image.info["dpi"] = (300, 300)
    defended = defender.defend(image)
    assert (defended.mode, defended.size) == (mode, image.size) and defended.info == image.info
    assert np.array_equal(np.asarray(defended), defender.defend(np.asarray(image)))
    with pytest.raises(ValueError, match=r"got P; image.convert\('RGB'\)"):
        defender.defend(plain.convert("P"))


def test_paths(defender, photograph, tmp_path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), photograph[:, :, ::-1])
    for given in (path, str(path)):
        assert np.array_equal(defender.defend(given), truth(photograph))
    with pytest.raises(InputError, match=r"none\.png cannot be read"):
        defender.defend(tmp_path / "none.png")


def test_the_size_of_files_is_bounded_by_max_pixels_alone(
    monkeypatch, photograph, tmp_path
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # which Pillow would refuse twice of
    for suffix in (".png", ".jpg", ".bmp", ".tif", ".webp"):
        path = tmp_path / f"a{suffix}"
        Image.fromarray(photograph).save(path)
        assert Defender().defend(path).shape == photograph.shape
        with pytest.raises(InputError, match=r"has 50x37 = 1850 pixels, more than max_pixels 99$"):
            Defender(max_pixels=99).defend(path)


def test_tensors(defender, photograph) -> None:
    batch = torch.from_numpy(photograph).permute(2, 0, 1)[None] / 255
    wanted = load_ansm().defend(batch)
    assert torch.allclose(defender.defend(batch), wanted, atol=1e-6)
    assert torch.allclose(defender.defend(batch[0]), wanted[0], atol=1e-6)
    assert defender.defend(batch.half()).dtype == torch.float16
    with pytest.raises(ValueError, match="divide 8-bit"):
        defender.defend(batch * 255)


def test_lists_and_the_function(defender, photograph) -> None:
    images = [photograph, Image.fromarray(photograph), photograph[:20]]
    found = defender.defend(images)
    assert isinstance(found[1], Image.Image) and found[2].shape == (20, 50, 3)
    assert np.array_equal(ansm_fast.defend(photograph), found[0])
    assert defender.defend([]) == []


def test_scores_and_masks(defender, photograph) -> None:
    engine = Engine(load_ansm(), load_localizer())
    (wanted,) = engine.defend([Photograph(photograph)])
    assert defender.attack_score(photograph) == pytest.approx(wanted.attack_score, abs=1e-6)
    threshold = defender.ansm.attack_threshold
    calm = np.full_like(photograph, 128)
    scores = defender.attack_score([photograph, calm])
    assert defender.attacked([photograph, calm]) == [score >= threshold for score in scores]
    assert scores[0] > scores[1]
    assert np.array_equal(defender.mask(photograph), wanted.mask_before)
    batch = torch.from_numpy(photograph).permute(2, 0, 1)[None] / 255
    assert defender.attacked(batch).tolist() == [scores[0] >= threshold]
    probability = defender.mask(batch)
    assert probability.shape == (1, 1, *SIZE)
    levels = (probability[0, 0] * 255).numpy()
    assert np.abs(levels - wanted.mask_before).max() <= 1


@pytest.mark.parametrize(
    ("image", "error", "said"),
    [
        (np.zeros((4, 4, 3)), TypeError, "uint8 or uint16 pixels, got float64"),
        (np.zeros((2, 4, 4, 3), np.uint8), ValueError, "a batch is a list of images"),
        (np.zeros((4, 4, 5), np.uint8), ValueError, r"got \(4, 4, 5\)"),
        (3, TypeError, "path, NumPy array, PIL image, Photograph or tensor, got int"),
    ],
)
def test_what_is_no_image_is_explained(defender, image, error, said) -> None:
    with pytest.raises(error, match=said):
        defender.defend(image)


def test_pairs_that_do_not_belong_together() -> None:
    with pytest.warns(UserWarning, match="trained for another localizer"):
        Defender("builtin", weights="robust")
    with pytest.raises(InputError, match="weights: name the ANSM"):
        Defender(torch.nn.Identity())
    mine = Defender(torch.nn.Conv2d(3, 1, 1), weights=load_ansm("two_view"))
    assert mine.mask(np.zeros((9, 9, 3), np.uint8)).shape == (9, 9)


def test_what_was_given_stays_as_it_is() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1), torch.nn.BatchNorm2d(1)).train()
    ansm = load_ansm("two_view").train()
    defender = Defender(model, weights=ansm)
    defender.mask(np.zeros((9, 9, 3), np.uint8))
    assert all(module.training for net in (model, ansm) for module in net.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert int(model[1].num_batches_tracked) == 0


def test_masks_of_tensors_are_checked_as_those_of_arrays() -> None:
    defender = Defender(torch.nn.Sigmoid(), weights=load_ansm("two_view"))
    for image in (torch.rand(1, 3, 9, 9), np.zeros((9, 9, 3), np.uint8)):
        with pytest.raises(LocalizerError):
            defender.mask(image)


def test_a_checkpoint_that_was_replaced_is_loaded_anew(weights, photograph, tmp_path) -> None:
    path = tmp_path / "ansm.safetensors"
    shutil.copy(ansm_path("robust"), path)
    first = ansm_fast.defend(photograph, weights=path)
    path.write_bytes(weights.read_bytes())
    os.utime(path, ns=(1, 1))
    second = ansm_fast.defend(photograph, weights=path)
    assert np.array_equal(first, truth(photograph)) and not np.array_equal(first, second)


def test_an_ansm_that_cannot_tell(photograph) -> None:
    with pytest.raises(ValueError, match="cannot tell whether an image was attacked"):
        Defender("builtin", weights="tiny").attack_score(photograph)


def test_image_and_score_of_one_pass(defender, photograph) -> None:
    given = Photograph(photograph, exif=b"mine")
    batch = torch.from_numpy(photograph).permute(2, 0, 1)[None] / 255
    pairs = defender.defend_and_score([photograph, given, batch, batch[0]])
    score = defender.attack_score(photograph)
    for (image, found), kind in zip(pairs, (photograph, given, batch, batch[0]), strict=True):
        assert type(image) is type(kind) and float(found) == pytest.approx(score, abs=1e-5)
    assert np.array_equal(pairs[0][0], truth(photograph))
    assert np.array_equal(pairs[1][0].pixels, truth(photograph)) and pairs[1][0].exif == b"mine"
    assert torch.allclose(pairs[2][0], defender.defend(batch), atol=1e-6)
    assert pairs[3][0].shape == batch.shape[1:]


def test_several_threads_share_one(defender, photograph) -> None:
    images = [np.roll(photograph, shift, 0) for shift in range(12)]
    wanted = defender.defend(images)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(defender.defend, images))
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
