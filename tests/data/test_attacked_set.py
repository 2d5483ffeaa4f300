from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ansm_fast.attacks import Attack
from ansm_fast.data import FolderDataset
from ansm_fast.data.attacked_set import Work, write_attacked_set
from ansm_fast.errors import InputError, LocalizerError
from ansm_fast.images.write import write_png
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
    lines = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").open()]
    assert [line["name"] for line in lines] == dataset.names
    # No folders: a set that is handed on says nothing of where its sources lay.
    assert lines[0]["source"] == "sub/0.png"
    for key, value in {"attack": "pgd", "eps": 3 / 255, "steps": 3, "objective": objective,
                       "seed": 0}.items():  # fmt: skip
        assert all(line[key] == value for line in lines)


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


def test_a_larger_limit_takes_over_a_smaller_one(dataset, localizer, tmp_path) -> None:
    out, done = tmp_path / "out", []
    assert len(attacked(dataset, localizer, out, limit=2)) == 2
    stamp = (out / "images" / "sub" / "0.png").stat().st_mtime_ns
    assert len(attacked(dataset, localizer, out, limit=3, on_progress=done.append)) == 3
    assert done == [2, 1] and (out / "images" / "sub" / "0.png").stat().st_mtime_ns == stamp


def test_other_images_of_the_same_name_and_size_are_not_taken(dataset, localizer, tmp_path) -> None:
    """As uncompressed files of two collections may be."""
    attacked(dataset, localizer, tmp_path / "out")
    image = dataset[1]["image"]
    write_png(dataset.pairs[1][0], 255 - image)
    with pytest.raises(InputError, match="another image named sub/1; give another output folder"):
        attacked(dataset, localizer, tmp_path / "out")
    write_png(dataset.pairs[1][0], image)
    attacked(dataset, localizer, tmp_path / "out")
    write_png(dataset.pairs[1][1], np.zeros(SIZES[1], np.uint8))
    with pytest.raises(InputError, match="another image named sub/1"):
        attacked(dataset, localizer, tmp_path / "out")


def test_an_image_whose_line_was_cut_short_is_made_again(dataset, localizer, tmp_path) -> None:
    out, done = tmp_path / "out", []
    attacked(dataset, localizer, out)
    metadata = out / "metadata.jsonl"
    whole = metadata.read_bytes()
    metadata.write_bytes(whole[:-20])
    attacked(dataset, localizer, out, on_progress=done.append)
    assert done == [3, 1] and metadata.read_bytes() == whole


def test_a_damaged_card(dataset, localizer, tmp_path) -> None:
    attacked(dataset, localizer, tmp_path / "out")
    (tmp_path / "out" / "attack.json").write_text("{")
    with pytest.raises(InputError, match=r"attack\.json is damaged; give another output folder"):
        attacked(dataset, localizer, tmp_path / "out")


def test_unwritable_output(dataset, localizer, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="give another output folder"):
        attacked(dataset, localizer, tmp_path / "file")


@pytest.mark.parametrize("name", ["README.md", "SHA256SUMS", "metadata.jsonl", "masks/b.png"])
def test_other_files_are_not_written_over(dataset, localizer, tmp_path, name) -> None:
    mine = tmp_path / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(InputError, match="give another output folder"):
        attacked(dataset, localizer, tmp_path / "out")
    assert mine.read_text() == "mine" and not (tmp_path / "out" / "attack.json").exists()


def test_an_image_without_a_gradient_is_counted_and_noted(dataset, localizer, tmp_path) -> None:
    """And the victim is left in train mode, as it was; a first batch without one is an error."""

    def victim(image):
        logits = localizer(image)
        return logits if image.shape[2] == 32 else logits.detach() + 0 * image.sum()

    localizer.train()
    work = Work()
    attack = Attack("mifgsm", 3 / 255, steps=2)
    attacked(dataset, victim, tmp_path / "out", attack, work=work)
    assert localizer.training and localizer.body.training
    localizer.eval()
    lines = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").open()]
    assert [line.get("gradient") for line in lines] == [None, None, "0 at every step", None]
    assert (work.stuck, work.images) == (1, 4)
    with pytest.raises(LocalizerError, match=r"gradient of 0 everywhere.* \(images sub/0 to sub/1"):
        attacked(dataset, lambda image: (9 * localizer(image)).round(), tmp_path / "other", attack)
