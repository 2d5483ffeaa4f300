"""One of each odd image and mask: `evaluate`, `attack` and `train` read it rightly or name it."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from ansm_fast.cli.failures import explain
from ansm_fast.cli.main import cli
from ansm_fast.data import read_mask
from ansm_fast.localizers import BuiltinLocalizer, LocalizerConfig, save_localizer

HEIGHT, WIDTH = 32, 48
PART = np.zeros((HEIGHT, WIDTH), bool)
PART[8:24, 10:30] = True
OTHER = np.zeros_like(PART)
OTHER[2:7, 34:46] = True
PHOTO = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
GREY = PART.astype(np.uint8) * 255


def pil(pixels: np.ndarray | Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    image.save(buffer, form, **options)
    return buffer.getvalue()


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def voc(labels: np.ndarray) -> bytes:
    image = Image.fromarray(labels.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, *[7] * 759])
    return pil(image)


def turned(form: str) -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    tag = {"tiffinfo": {274: 6}} if form == "TIFF" else {"exif": exif}
    return pil(PHOTO[:, :, :3], form, **tag)


def labels(second: int) -> np.ndarray:
    return np.where(OTHER, second, PART).astype(np.uint8)


GOOD_IMAGE, GOOD_MASK = pil(PHOTO[:, :, :3]), pil(GREY)

# By the stem, which says what is odd: suffix and content of the image, content of the mask.
ACCEPTED: dict[str, tuple[str, bytes, bytes]] = {
    "plain": ("png", GOOD_IMAGE, GOOD_MASK),
    "turned": ("jpg", turned("JPEG"), GOOD_MASK),
    "turned_png": ("png", turned("PNG"), GOOD_MASK),
    "turned_tiff": ("tif", turned("TIFF"), GOOD_MASK),
    "turned_webp": ("webp", turned("WEBP"), GOOD_MASK),
    "alpha": ("png", pil(PHOTO), GOOD_MASK),
    "grey": ("bmp", pil(PHOTO[:, :, 0], "BMP"), GOOD_MASK),
    "deep": ("png", cv2.imencode(".png", PHOTO[:, :, :3].astype(np.uint16) * 257)[1].tobytes(),
             GOOD_MASK),
    # Pillow opens no such file.
    "deep_with_alpha": ("tif", tiff(PHOTO[:, :, :2].astype(np.uint16), photometric="minisblack",
                                    planarconfig="contig", extrasamples=["unassalpha"]), GOOD_MASK),
    "cmyk": ("jpeg", pil(Image.fromarray(PHOTO[:, :, :3]).convert("CMYK"), "JPEG"), GOOD_MASK),
    "palette": ("png", pil(Image.fromarray(PHOTO[:, :, :3]).quantize(9)), GOOD_MASK),
    "mask_of_ones": ("png", GOOD_IMAGE, pil(PART.astype(np.uint8))),
    "mask_of_bools": ("png", GOOD_IMAGE, pil(PART)),
    "mask_of_a_palette": ("png", GOOD_IMAGE, voc(PART)),
    "mask_in_red": ("png", GOOD_IMAGE, pil(np.dstack([GREY, 0 * GREY, 0 * GREY]))),
    "mask_in_16_bits": ("png", GOOD_IMAGE,
                        cv2.imencode(".png", GREY.astype(np.uint16) * 257)[1].tobytes()),
    "mask_in_jpeg": ("png", GOOD_IMAGE, pil(GREY, "JPEG", quality=90)),
    "mask_smooth": ("png", GOOD_IMAGE, pil(cv2.blur(GREY, (3, 3)))),
    "empty": ("png", GOOD_IMAGE, pil(0 * GREY)),
    "full": ("png", GOOD_IMAGE, pil(0 * GREY + 255)),
}  # fmt: skip

REFUSED: dict[str, tuple[bytes | None, bytes | None, str]] = {
    "three classes": (GOOD_IMAGE, pil(labels(2)), r"mask \S*odd.png holds 3 values \(0, 1, 2\)"),
    "a void border": (GOOD_IMAGE, pil(labels(255)), r"holds 3 values \(0, 1, 255\)"),
    "a palette of three": (GOOD_IMAGE, voc(labels(2)), "holds 3 colours"),
    "one level": (GOOD_IMAGE, pil(0 * GREY + 1), "holds 1 alone, and .* other values"),
    "red on white": (GOOD_IMAGE, pil(np.dstack([0 * GREY + 255, GREY, GREY])), "holds 2 colours"),
    "told by alpha": (GOOD_IMAGE, pil(np.dstack([0 * GREY, 0 * GREY, 0 * GREY, GREY])),
                      "holds transparency that varies"),
    "a slope": (GOOD_IMAGE, pil(np.tile(np.arange(0, 240, 5, np.uint8), (HEIGHT, 1))), "values"),
    "floats": (GOOD_IMAGE, tiff(PART.astype(np.float32)), "cannot decode mask .*type float32"),
    "another size": (GOOD_IMAGE, pil(GREY[:-1]), "is 48x31 but its image is 48x32; masks must"),
    "turned": (turned("JPEG"), pil(np.ascontiguousarray(GREY.T)),
               "is 32x48 but its image is 48x32 as stored, and odd.png carries the EXIF orient"),
    "no mask": (GOOD_IMAGE, None, r"1 of 3 images in \S* have no mask in .*first: odd\)"),
    "an empty mask file": (GOOD_IMAGE, b"", "cannot decode mask .*it is empty"),
    "half a mask": (GOOD_IMAGE, GOOD_MASK[:-30], "cannot decode mask .*it is damaged"),
    "an empty file": (b"", GOOD_MASK, r"cannot decode image \S*odd.png; .*it is empty"),
    "text": (b"no image", GOOD_MASK, "it is neither JPEG, PNG, TIFF, WebP nor BMP"),
    "a GIF": (pil(PHOTO[:, :, 0], "GIF"), GOOD_MASK, "it is neither JPEG"),
    "half a photograph": (pil(PHOTO[:, :, :3], "JPEG")[:-80], GOOD_MASK, "it is cut short"),
    "a photograph of floats": (tiff(PART.astype(np.float32)), GOOD_MASK, "image .*type float32"),
}  # fmt: skip


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("victim") / "victim.safetensors"
    save_localizer(path, BuiltinLocalizer(LocalizerConfig((8, 8, 8, 8))))
    return path


def write(folder: Path, name: str, suffix: str, image: bytes | None, mask: bytes | None) -> None:
    for part, content, end in (("images", image, suffix), ("masks", mask, "png")):
        (folder / part).mkdir(parents=True, exist_ok=True)
        if content is not None:
            (folder / part / f"{name}.{end}").write_bytes(content)


def commands(folder: Path, out: Path, victim: Path) -> dict[str, Callable[[], Result]]:
    """The three commands on one folder, with as little work as they can have."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])

    config = out / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "kind": "localizer", "photographs": "generated", "widths": [8, 8, 8, 8],
                "data": {"train": str(folder), "validation": str(folder), "validation_count": 3},
                "steps": 1, "validate_every": 1, "save_every": 1,
                "phases": [{"until": 1.0, "crop": 16, "batch_size": 2}],
            }
        )
    )  # fmt: skip
    return {
        "evaluate": lambda: run("evaluate", folder, "--localizer", victim, "--attacks", "none",
                                "--defences", "none", "--json", out / "e.json"),
        "attack": lambda: run("attack", folder, "-o", out / "attacked", "--localizer", victim,
                              "--attack", "noise"),
        "train": lambda: run("train", "localizer", "--config", config, "-o", out / "trained"),
    }  # fmt: skip


def test_what_is_odd_and_clear_is_taken(tmp_path: Path, victim: Path) -> None:
    folder = tmp_path / "set"
    for name, (suffix, image, mask) in ACCEPTED.items():
        write(folder, name, suffix, image, mask)
    os.mkfifo(folder / "images" / "pipe.png")
    (folder / "images" / "folder.jpg").mkdir()
    (folder / "images" / "moving.gif").write_bytes(b"GIF89a")
    lines = (
        f"{len(ACCEPTED)} masks: {len(ACCEPTED) - 2} mark a part, 1 empty (pristine), 1 all forged",
        f"4 files carry an EXIF orientation (first: {folder}/images/turned.jpg): images and masks "
        "are read as stored, not turned",
        f"left out: {folder}/images/pipe.png is a named pipe",
        f"left out: {folder}/images/folder.jpg is a folder",
        f"left out: {folder}/images/moving.gif; .gif is not read",
    )
    for name, command in commands(folder, tmp_path, victim).items():
        result = command()
        assert result.exit_code == 0, (name, result.output, result.exception)
        shown = result.stdout if name == "train" else result.stderr
        assert all(line in shown for line in lines), (name, shown)
    row, *floors = json.loads((tmp_path / "e.json").read_text())["rows"]
    assert [floor["defence"] for floor in floors] == ["all-marked", "none-marked"]
    assert row["n"] == len(ACCEPTED) - 1
    for name in ACCEPTED:
        expected = {"empty": 0 * PART, "full": PART | True}.get(name, PART)
        made = read_mask(tmp_path / "attacked" / "masks" / f"{name}.png")
        tolerance = 0.01 if name in ("mask_in_jpeg", "mask_smooth") else 0
        assert (made != expected).mean() <= tolerance, name


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_or_unclear_is_named(tmp_path: Path, victim: Path, name: str) -> None:
    folder = tmp_path / "set"
    image, mask, words = REFUSED[name]
    write(folder, "a", "png", GOOD_IMAGE, GOOD_MASK)
    write(folder, "b", "png", GOOD_IMAGE, GOOD_MASK)
    write(folder, "odd", "png", image, mask)
    for command in commands(folder, tmp_path, victim).values():
        result = command()
        line, code = explain(result.exception)
        assert code == 2, (result.output, result.exc_info)
        assert line is not None and "\n" not in line and re.search(words, line), line
    assert not (tmp_path / "attacked").exists() and not (tmp_path / "e.json").exists()


def test_images_of_several_sizes(tmp_path: Path, victim: Path) -> None:
    """Training cuts them to windows of one size; the others take them as they are."""
    folder = tmp_path / "set"
    write(folder, "a", "png", GOOD_IMAGE, GOOD_MASK)
    write(folder, "b", "png", pil(PHOTO[:20, :, :3]), pil(GREY[:20]))
    made = commands(folder, tmp_path, victim)
    assert made["evaluate"]().exit_code == 0 and made["attack"]().exit_code == 0
    result = made["train"]()
    assert result.exit_code == 0
    assert f"{folder}: 2 windows of 32x32 pixels cut from 2 images" in result.stdout
