from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from ansm_fast.data.split import split_sides
from ansm_fast.data.synthesis import ForgeryMix, make_forgery, synthesize
from ansm_fast.data.synthesis.forgery import random_crop
from ansm_fast.errors import InputError

ONLY = {
    kind: ForgeryMix(**{name: float(name == kind) for name in
                        ("splice", "copy_move", "removal", "pristine")})
    for kind in ("splice", "copy_move", "removal", "pristine")
}  # fmt: skip


def photograph(rng: np.random.Generator) -> np.ndarray:
    """Smooth structures with fine noise, as photographs have."""
    coarse = rng.integers(0, 255, (12, 14, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (360, 320), interpolation=cv2.INTER_CUBIC).astype(np.float64)
    return (image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for index in range(3):
        image = photograph(np.random.default_rng(index))
        cv2.imwrite(str(folder / f"{index}.png"), image)
    return folder


@pytest.mark.parametrize("kind", ["splice", "copy_move", "removal"])
def test_forgeries_have_a_mask(kind) -> None:
    for seed in range(6):
        forgery = make_forgery(np.random.default_rng(seed), photograph, size=128, mix=ONLY[kind])
        assert forgery.image.shape == (128, 128, 3) and forgery.mask.shape == (128, 128)
        assert 0 < forgery.mask.mean() < 0.6 and forgery.kind == kind.replace("_", "-")


@pytest.mark.parametrize("kind", ["splice", "copy_move", "removal"])
def test_the_mask_is_where_the_image_changed(kind) -> None:
    """The same seed gives the same host: what differs from it was forged."""
    for seed in range(6):
        forged, host = (
            make_forgery(
                np.random.default_rng(seed), photograph, 128, ForgeryMix(final_jpeg=0), kind=name
            )
            for name in (kind.replace("_", "-"), "pristine")
        )
        changed = (forged.image != host.image).any(axis=2)
        # Soft edges reach four pixels beyond the mask.
        near = cv2.dilate(forged.mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
        assert not changed[~near].any() and changed[forged.mask].mean() > 0.5


def test_pristine_has_an_empty_mask() -> None:
    forgery = make_forgery(np.random.default_rng(0), photograph, size=128, mix=ONLY["pristine"])
    assert not forgery.mask.any()


def test_a_seed_fixes_every_pixel() -> None:
    one, other = (
        make_forgery(np.random.default_rng(5), photograph, size=96, mix=ForgeryMix())
        for _ in range(2)
    )
    assert np.array_equal(one.image, other.image) and np.array_equal(one.mask, other.mask)


def test_folder_is_the_same_for_any_number_of_workers_and_after_a_break(
    photographs, tmp_path
) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again"
    synthesize(photographs, whole, 6, seed=3, size=96, workers=1)
    synthesize(photographs, again, 6, seed=3, size=96, workers=2)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.png"))
    assert len(files) == 12
    for file in files:
        assert (whole / file).read_bytes() == (again / file).read_bytes()
    removed = again / files[0]
    before = removed.read_bytes()
    removed.unlink()
    synthesize(photographs, again, 6, seed=3, size=96)
    assert removed.read_bytes() == before
    lines = (whole / "metadata.jsonl").read_text().splitlines()
    assert len(lines) == 6 and all(json.loads(line) for line in lines)


def test_other_settings_are_refused_in_the_same_folder(photographs, tmp_path) -> None:
    synthesize(photographs, tmp_path / "set", 2, seed=3, size=96)
    with pytest.raises(InputError):
        synthesize(photographs, tmp_path / "set", 2, seed=4, size=96)


@pytest.mark.parametrize("side", [63, 64, 65, 66, 120])
def test_photographs_of_about_the_crop_size_are_cropped(side) -> None:
    photograph = np.full((side, side + 3, 3), 7, np.uint8)
    for seed in range(8):
        crop = random_crop(np.random.default_rng(seed), photograph, 64)
        assert crop.shape == (64, 64, 3) and (crop == 7).all()


@pytest.mark.parametrize("name", ["images/000000.png", "masks/a.png", "metadata.jsonl"])
def test_other_files_are_neither_written_over_nor_taken(photographs, tmp_path, name) -> None:
    mine = tmp_path / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(InputError, match="give another output folder"):
        synthesize(photographs, tmp_path / "out", 1, size=64)
    assert mine.read_text() == "mine" and list(tmp_path.glob("out/*")) == [
        tmp_path / "out" / name.split("/")[0]
    ]


def photographs_of(folder: Path) -> set[str]:
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    return {name for line in lines for name in json.loads(line)["photographs"]}


def test_training_and_validation_share_no_photograph(tmp_path) -> None:
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    for index in range(24):
        name = folder / ("more" if index % 2 else "") / f"{index}.png"
        cv2.imwrite(str(name), photograph(np.random.default_rng(index)))
        if index < 8:  # copies under other names
            (folder / f"copy{index}.png").write_bytes(name.read_bytes())
    command = partial(synthesize, folder, size=64)
    command(tmp_path / "train", 40, side="train")
    command(tmp_path / "validation", 20, seed=1, side="validation")
    contents = [
        {(folder / name).read_bytes() for name in photographs_of(tmp_path / part)}
        for part in ("train", "validation")
    ]
    assert contents[0] and contents[1] and not contents[0] & contents[1]
    with pytest.raises(InputError, match="other settings"):
        command(tmp_path / "train", 40, side="validation")


@pytest.mark.parametrize("first", [b"\x00", b"\x80"], ids=["all validation", "all training"])
def test_two_photographs_give_two_sides(first) -> None:
    assert sorted(split_sides([first + b"a", first + b"b", first + b"b"])) in (
        ["train", "train", "validation"],
        ["train", "validation", "validation"],
    )


def test_the_side_of_a_photograph_does_not_hang_on_the_others() -> None:
    keys = [bytes([number]) + b"x" for number in range(256)]
    assert dict(zip(keys, split_sides(keys), strict=True)) | dict(
        zip(keys[::2], split_sides(keys[::2]), strict=True)
    ) == dict(zip(keys, split_sides(keys), strict=True))


def test_one_photograph_has_no_two_sides(tmp_path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in "ab":
        cv2.imwrite(str(folder / f"{name}.png"), photograph(np.random.default_rng(0)))
    with pytest.raises(InputError, match=r"holds one photograph or copies of one, .* more of them"):
        synthesize(folder, tmp_path / "set", 2, size=64, side="train")
