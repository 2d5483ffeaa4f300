from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ansm_fast.attacks import Attack
from ansm_fast.data import FolderDataset, read_rgb
from ansm_fast.data.attacked_set import write_attacked_set, write_png, wrong_mask
from ansm_fast.errors import InputError
from ansm_fast.localizers import BuiltinLocalizer, LocalizerConfig

SIZES = [(32, 40), (32, 40), (24, 24), (32, 40)]


@pytest.fixture
def dataset(tmp_path: Path) -> FolderDataset:
    rng = np.random.default_rng(0)
    for index, size in enumerate(SIZES):
        mask = np.zeros(size, np.uint8)
        mask[4 : 10 + index, 5:15] = 255 * (index != 3)  # the last one is pristine
        write_png(
            tmp_path / "images" / "sub" / f"{index}.png", rng.integers(0, 256, (*size, 3), np.uint8)
        )
        write_png(tmp_path / "masks" / "sub" / f"{index}.png", mask)
    return FolderDataset(tmp_path / "images", tmp_path / "masks")


@pytest.fixture(scope="module")
def localizer() -> BuiltinLocalizer:
    torch.manual_seed(0)
    return BuiltinLocalizer(LocalizerConfig((8, 8, 8, 8))).eval().requires_grad_(False)


def attacked(dataset, localizer, out, attack=None, **options) -> FolderDataset:
    attack = attack or Attack("pgd", 3 / 255, steps=2, seed=7)
    return write_attacked_set(dataset, localizer, attack, out, localizer_fingerprint="f", **options)


@pytest.mark.parametrize("objective", ["untargeted", "hide", "wrong-mask"])
def test_files_keep_names_sizes_masks_and_the_budget(
    dataset, localizer, tmp_path, objective
) -> None:
    attack = Attack("pgd", 3 / 255, steps=3, objective=objective)
    found = attacked(dataset, localizer, tmp_path / "out", attack)
    assert found.names == dataset.names
    for index in range(len(dataset)):
        before, after = dataset[index], found[index]
        shift = after["image"].astype(int) - before["image"].astype(int)
        assert 0 < np.abs(shift).max() <= 3
        assert np.array_equal(after["mask"], before["mask"])
    line = json.loads((tmp_path / "out" / "metadata.jsonl").read_text().splitlines()[0])
    assert line["objective"] == objective and line["image"] == "sub/0"
    assert line["name"] == "pgd" and line["eps"] == 3 / 255


def test_the_result_does_not_depend_on_the_batch(dataset, localizer, tmp_path) -> None:
    one = attacked(dataset, localizer, tmp_path / "one", batch_size=1)
    many = attacked(dataset, localizer, tmp_path / "many", batch_size=8)
    for index in range(len(dataset)):
        difference = one[index]["image"].astype(int) - many[index]["image"].astype(int)
        # Convolutions of a batch sum in another order: a sign may flip where the gradient is 0.
        assert (difference != 0).mean() < 0.01


def test_resumes_and_keeps_what_is_there(dataset, localizer, tmp_path) -> None:
    out, done = tmp_path / "out", []
    attacked(dataset, localizer, out)
    target = out / "images" / "sub" / "1.png"
    other = out / "images" / "sub" / "0.png"
    content, stamp = target.read_bytes(), other.stat().st_mtime_ns
    target.unlink()
    attacked(dataset, localizer, out, on_progress=done.append)
    assert target.read_bytes() == content and other.stat().st_mtime_ns == stamp
    assert sum(done) == len(dataset)
    with pytest.raises(InputError, match="other settings"):
        attacked(dataset, localizer, out, Attack("pgd", 4 / 255, steps=2, seed=7))
    with pytest.raises(InputError, match="holds other images"):
        attacked(dataset, localizer, tmp_path)


def test_limit(dataset, localizer, tmp_path) -> None:
    assert len(attacked(dataset, localizer, tmp_path / "out", limit=2)) == 2


def test_unwritable_output(dataset, localizer, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="give another output folder"):
        attacked(dataset, localizer, tmp_path / "file")


def test_wrong_mask_is_another_images(dataset) -> None:
    assert np.array_equal(wrong_mask(dataset, 0, SIZES[0]), dataset.mask(1))
    assert wrong_mask(dataset, 1, SIZES[1]).shape == SIZES[1]  # of image 2, resized
    assert np.array_equal(wrong_mask(dataset, 2, SIZES[2]).any(), True)


def test_images_survive_as_written(tmp_path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    write_png(tmp_path / "a" / "b.png", image)
    assert np.array_equal(read_rgb(tmp_path / "a" / "b.png"), image)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.png"]
