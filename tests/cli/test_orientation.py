"""An orientation in EXIF or TIFF: image and mask are taken as stored, by every command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image, ImageOps

from ansm_fast.cli.main import cli
from ansm_fast.data import FolderDataset
from ansm_fast.errors import InputError
from ansm_fast.training.batches import MemorySet

FORMATS = {"jpg": {"quality": 97, "subsampling": 0}, "png": {}, "tif": {}, "webp": {"quality": 97}}
HEIGHT, WIDTH = 48, 64
MASK = np.zeros((HEIGHT, WIDTH), bool)
MASK[8:24, 4:20] = True  # nowhere symmetric

LOCALIZER = """
import torch
from torch import nn
from ansm_fast.localizers import WrappedLocalizer

def reddish():
    network = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Identity())
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([10.0, -10.0, 0.0])[None, :, None, None])
        network[0].bias.fill_(-4)
    return WrappedLocalizer(network, taps=("0",))
"""


def save(path: Path, pixels: np.ndarray, orientation: int) -> None:
    form = path.suffix[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[274] = orientation
    tag = {"tiffinfo": {274: orientation}} if form == "tif" else {"exif": exif}
    Image.fromarray(pixels).save(path, **FORMATS[form], **tag)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every orientation in every format: a red region on grey, and the region as the mask."""
    root = tmp_path_factory.mktemp("turned")
    pixels = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    pixels[MASK] = (230, 40, 40)
    for form in FORMATS:
        for orientation in range(1, 9):
            save(root / "images" / f"{form}{orientation}.{form}", pixels, orientation)
            # Some masks are made by programs that copy the tags of their image.
            other = orientation if orientation % 2 else 1
            mask = root / "masks" / f"{form}{orientation}.png"
            save(mask, MASK.astype(np.uint8) * 255, other)
    (root / "reddish.py").write_text(LOCALIZER, encoding="utf-8")
    return root


@pytest.fixture(autouse=True)
def _here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def test_evaluate(folder: Path, tmp_path: Path) -> None:
    result = run("evaluate", folder, "--attacks", "none", "--defences", "none", "--localizer",
                 "reddish:reddish", "--json", tmp_path / "e.json")  # fmt: skip
    row, *floors = json.loads((tmp_path / "e.json").read_text())["rows"]
    assert [floor["defence"] for floor in floors] == ["all-marked", "none-marked"]
    assert row["f1"] > 0.99 and row["n"] == 32
    assert "32 masks: 32 mark a part, 0 empty (pristine), 0 all forged" in result.stderr
    assert "40 files carry an EXIF orientation" in result.stderr


def test_attack(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("attack", folder, "-o", out, "--attack", "noise", "--eps", "1/255",
                 "--localizer", "reddish:reddish")  # fmt: skip
    assert "40 files carry an EXIF orientation" in result.stderr
    originals, attacked = FolderDataset("images", "masks"), FolderDataset(out / "images", "masks")
    made = FolderDataset(out / "images", out / "masks")
    assert attacked.names == originals.names and len(made) == 32
    for index in range(32):
        before, after = originals[index], made[index]
        assert np.array_equal(after["mask"], MASK) and np.array_equal(before["mask"], MASK)
        difference = after["image"].astype(int) - before["image"]
        assert np.abs(difference).max() <= 1


def test_train(folder: Path, tmp_path: Path) -> None:
    data = MemorySet(folder)
    assert (data.masks == MASK).all() and (data.images[:, MASK, 0] > 150).all()
    common = {
        "data": {"train": str(folder), "validation": str(folder), "validation_count": 4},
        "photographs": "generated", "steps": 2, "validate_every": 2, "save_every": 2,
    }  # fmt: skip
    localizer = {
        "kind": "localizer", "widths": [8, 8, 8, 8],
        "phases": [{"until": 1.0, "crop": 32, "batch_size": 2}],
    }  # fmt: skip
    ansm = {
        "kind": "ansm", "localizer": "reddish:reddish", "crop": 32, "batch_size": 2,
        "warm_start": False, "attack_cache": str(tmp_path / "attacks"), "attack_cache_size": 8,
        "attacks": [{"name": "fgsm"}], "ffa": {"steps": 1},
    }  # fmt: skip
    for kind in (localizer, ansm):
        config = tmp_path / f"{kind['kind']}.yaml"
        config.write_text(yaml.safe_dump(common | kind))
        result = run("train", kind["kind"], "--config", config, "-o", tmp_path / config.stem)
        assert f"{folder}: 32 masks: 32 mark a part, 0 empty (pristine), 0 all" in result.stdout
        assert f"{folder}: 40 files carry an EXIF orientation" in result.stdout


def test_synthesize(tmp_path: Path) -> None:
    """The same forgeries as of photographs without the tag."""
    rng = np.random.default_rng(0)
    for orientation in range(1, 9):
        for form in FORMATS:
            pixels = rng.integers(0, 256, (80, 96, 3), np.uint8)
            save(tmp_path / "turned" / f"{orientation}.{form}", pixels, orientation)
            save(tmp_path / "plain" / f"{orientation}.{form}", pixels, 1)
    for name in ("turned", "plain"):
        run("data", "synthesize", tmp_path / name, "-o", tmp_path / f"{name}-set", "-n", 6,
            "--size", 64)  # fmt: skip
    for part in ("images", "masks"):
        for path in sorted((tmp_path / "turned-set" / part).iterdir()):
            assert path.read_bytes() == (tmp_path / "plain-set" / part / path.name).read_bytes()


def test_defend(folder: Path, tmp_path: Path) -> None:
    """Stored pixels and their tag, except from TIFF, which leaves upright; masks as the output."""
    out, masks = tmp_path / "out", tmp_path / "masks"
    run("defend", "--batch", folder / "images", "-o", out, "--masks", masks,
        "--localizer", "reddish:reddish")  # fmt: skip
    for form in FORMATS:
        for orientation in range(1, 9):
            name = f"{form}{orientation}"
            found = np.asarray(Image.open(masks / f"{name}.before.png")) > 127
            stored = Image.fromarray(MASK.astype(np.uint8) * 255)
            exif = Image.Exif()
            exif[274] = orientation
            stored.info["exif"] = exif.tobytes()
            seen = np.asarray(ImageOps.exif_transpose(stored)) > 127
            assert np.array_equal(found, seen if form == "tif" else MASK)
            with Image.open(out / f"{name}.png") as output:
                output.load()
                tag = output.getexif().get(274, 1)
                assert output.size == found.shape[::-1]
            assert tag == (1 if form == "tif" else orientation)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("form", FORMATS)
def test_a_mask_of_the_turned_image_is_explained(
    tmp_path: Path, form: str, orientation: int
) -> None:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    save(tmp_path / "images" / f"a.{form}", pixels, orientation)
    save(tmp_path / "masks" / "a.png", np.zeros((WIDTH, HEIGHT), np.uint8), 1)
    with pytest.raises(InputError) as caught:
        FolderDataset(tmp_path / "images", tmp_path / "masks").check(1)
    assert str(caught.value) == (
        f"mask {tmp_path}/masks/a.png is 48x64 but its image is 64x48 as stored, and a.{form} "
        f"carries the EXIF orientation {orientation}, which is not applied: turn its pixels "
        "(ImageOps.exif_transpose of Pillow, or exiftran) and save it without; masks must have "
        "their image's size"
    )
