"""Masks as public sets hold them: read rightly, or refused with their values."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from ansm_fast.data import FolderDataset, read_mask
from ansm_fast.errors import InputError
from ansm_fast.images.write import write_png

SIZE = (60, 80)
FORGED = np.zeros(SIZE, bool)
FORGED[10:40, 20:60] = True
LABELS = FORGED.astype(np.uint8)
SECOND = np.zeros(SIZE, bool)
SECOND[45:58, 5:30] = True


def encoded(image: Image.Image | np.ndarray, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(buffer, form, **options)
    return buffer.getvalue()


def levels(dark: int, bright: int, dtype: type = np.uint8) -> np.ndarray:
    return np.where(FORGED, bright, dark).astype(dtype)


def colours(
    dark: tuple[int, ...], bright: tuple[int, ...], third: tuple[int, ...] | None = None
) -> np.ndarray:
    pixels = np.where(FORGED[:, :, None], bright, dark).astype(np.uint8)
    if third is not None:
        pixels[SECOND] = third
    return pixels


def palette(indices: np.ndarray, *entries: tuple[int, int, int], **at: tuple[int, ...]) -> bytes:
    image = Image.fromarray(indices, "P")
    table = [channel for entry in entries for channel in entry] + [0] * (768 - 3 * len(entries))
    for index, entry in at.items():
        table[3 * int(index[1:]) : 3 * int(index[1:]) + 3] = entry
    image.putpalette(table)
    return encoded(image)


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def png16(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def smooth(width: int) -> np.ndarray:
    return cv2.blur(levels(0, 255), (width, width))


def resized() -> np.ndarray:
    small = cv2.resize(levels(0, 255), (20, 15), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_LINEAR)


BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)
VOC = ((0, 0, 0), (128, 0, 0))

RIGHT: dict[str, Callable[[], bytes]] = {
    "0/255": lambda: encoded(levels(0, 255)),
    "0/1": lambda: encoded(levels(0, 1)),
    "0/128": lambda: encoded(levels(0, 128)),
    "1/2": lambda: encoded(levels(1, 2)),
    "bool PNG": lambda: encoded(FORGED),
    "bool TIFF": lambda: encoded(FORGED, "TIFF", compression="group4"),
    "bool TIFF, white is zero": lambda: tiff(~FORGED, photometric="miniswhite"),
    "bool BMP": lambda: encoded(FORGED, "BMP"),
    "0/1 BMP": lambda: encoded(levels(0, 1), "BMP"),
    "0/1 TIFF": lambda: encoded(levels(0, 1), "TIFF", compression="tiff_lzw"),
    "0/1 WebP": lambda: encoded(colours(BLACK, (1, 1, 1)), "WEBP", lossless=True),
    "0/65535": lambda: png16(levels(0, 65535, np.uint16)),
    "0/1 in 16 bits": lambda: png16(levels(0, 1, np.uint16)),
    "0/255 in 16 bits": lambda: tiff(levels(0, 255, np.uint16), photometric="minisblack"),
    "grey as RGB": lambda: encoded(colours(BLACK, WHITE)),
    "0/1 as RGB": lambda: encoded(colours(BLACK, (1, 1, 1))),
    "grey with opaque alpha": lambda: encoded(colours((0, 0, 0, 255), (255, 255, 255, 255))),
    "white on transparent black": lambda: encoded(colours((0, 0, 0, 0), (255, 255, 255, 255))),
    "red on black": lambda: encoded(colours(BLACK, RED)),
    "dark red on black": lambda: encoded(colours(BLACK, (128, 0, 0))),
    "pink on black": lambda: encoded(colours(BLACK, (220, 20, 60))),
    "yellow on black, smooth": lambda: encoded(np.dstack([smooth(3), smooth(3), 0 * smooth(3)])),
    "VOC palette": lambda: palette(LABELS, *VOC),
    "palette of greys": lambda: palette(LABELS, BLACK, (1, 1, 1)),
    "palette, white first": lambda: palette(1 - LABELS, WHITE, BLACK),
    "palette, entries apart": lambda: palette(levels(3, 9), i3=BLACK, i9=(0, 128, 0)),
    "JPEG": lambda: encoded(levels(0, 255), "JPEG", quality=50),
    "JPEG as RGB": lambda: encoded(colours(BLACK, WHITE), "JPEG", quality=85),
    "WebP": lambda: encoded(colours(BLACK, WHITE), "WEBP", quality=60),
    "saved as PNG after JPEG": lambda: encoded(
        Image.open(io.BytesIO(encoded(levels(0, 255), "JPEG", quality=60)))
    ),
    "smooth edges": lambda: encoded(smooth(5)),
    "smooth edges in 16 bits": lambda: png16(smooth(5).astype(np.uint16) * 257),
    "resized": lambda: encoded(resized()),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_two_levels_are_told_apart(tmp_path: Path, name: str) -> None:
    (tmp_path / "m.png").write_bytes(RIGHT[name]())
    found = read_mask(tmp_path / "m.png")
    assert found.dtype == bool and found.shape == SIZE
    soft = any(word in name for word in ("JPEG", "WebP", "smooth", "resized"))
    assert (found != FORGED).mean() <= (0.01 if soft else 0)


def third(level: int) -> np.ndarray:
    return np.where(SECOND, level, levels(0, 255)).astype(np.uint8)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "three classes": (lambda: encoded(np.where(SECOND, 2, LABELS).astype(np.uint8)),
                      r"3 values \(0, 1, 2\)"),
    "a class and a void border": (lambda: encoded(np.where(SECOND, 255, LABELS).astype(np.uint8)),
                                  r"3 values \(0, 1, 255\)"),
    "0/128/255": (lambda: encoded(third(128)), r"3 values \(0, 128, 255\)"),
    "0/76/255": (lambda: encoded(third(76)), r"3 values \(0, 76, 255\)"),
    "VOC with void": (lambda: palette(np.where(SECOND, 255, LABELS).astype(np.uint8), *VOC,
                                      i255=(224, 224, 192)),
                      r"3 colours \(#000000, #800000, #e0e0c0\)"),
    "two classes of VOC": (lambda: palette(LABELS, (128, 0, 0), (0, 128, 0)),
                           r"2 colours \(#008000, #800000\)"),
    "one colour for two entries": (lambda: palette(LABELS, BLACK, BLACK),
                                   r"2 palette entries \(0, 1\) of one colour"),
    "red on white": (lambda: encoded(colours(WHITE, RED)), r"2 colours \(#ff0000, #ffffff\)"),
    "red and green edges": (lambda: encoded(colours(BLACK, RED, (0, 255, 0))), "3 colours"),
    "red on black, JPEG": (lambda: encoded(colours(BLACK, RED), "JPEG"), r"\d+ colours"),
    "a slope": (lambda: encoded(np.tile(np.linspace(0, 255, 80).astype(np.uint8), (60, 1))),
                r"80 values \(0, 3, 6, \.\.\., 248, 251, 255\)"),
    "probabilities": (lambda: encoded(cv2.GaussianBlur(levels(0, 255), (0, 0), 8)), r"\d+ values"),
    "greys without white": (lambda: encoded(np.where(SECOND, 90, levels(0, 60)).astype(np.uint8)),
                            r"3 values \(0, 60, 90\)"),
    "0/1 in JPEG": (lambda: encoded(levels(0, 12), "JPEG", quality=100), r"3 values \(0, 1, 12\)"),
    "black, told by alpha": (lambda: encoded(colours((0, 0, 0, 0), (0, 0, 0, 255))),
                             "transparency that varies"),
    "white, told by alpha": (lambda: encoded(colours((255, 255, 255, 0), (255, 255, 255, 255))),
                             "transparency that varies"),
    "a photograph": (lambda: encoded(np.random.default_rng(0).integers(0, 256, (60, 80, 3),
                                                                       np.uint8)),
                     "4800 colours"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_ambiguous_is_refused_with_its_values(tmp_path: Path, name: str) -> None:
    make, values = REFUSED[name]
    (tmp_path / "m.png").write_bytes(make())
    with pytest.raises(InputError, match=rf"mask \S*m.png holds {values}") as caught:
        read_mask(tmp_path / "m.png")
    assert "\n" not in str(caught.value) and "save it with two values" in str(caught.value)


def test_floats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.tif").write_bytes(tiff(FORGED.astype(np.float32)))
    with pytest.raises(InputError, match=r"cannot decode mask \S*m.tif; .*type float32"):
        read_mask(tmp_path / "m.tif")


@pytest.mark.parametrize(
    ("pixels", "forged"),
    [
        (np.zeros(SIZE, np.uint8), False),
        (np.full(SIZE, 255, np.uint8), True),
        (np.full(SIZE, 65535, np.uint16), True),
        (np.zeros((*SIZE, 3), np.uint8), False),
        (np.full((*SIZE, 3), 255, np.uint8), True),
    ],
)
def test_black_is_pristine_and_white_all_forged(tmp_path: Path, pixels, forged) -> None:
    cv2.imwrite(str(tmp_path / "m.png"), pixels)
    assert (read_mask(tmp_path / "m.png") == forged).all()


def as_set(root: Path, *masks: np.ndarray) -> FolderDataset:
    for index, mask in enumerate(masks):
        write_png(root / "images" / f"{index}.png", np.zeros((*SIZE, 3), np.uint8))
        write_png(root / "masks" / f"{index}.png", mask)
    return FolderDataset(root / "images", root / "masks")


@pytest.mark.parametrize("level", [1, 38, 128])
def test_all_of_one_level_is_forged_where_the_set_has_no_other(tmp_path: Path, level) -> None:
    whole, part = np.full(SIZE, level, np.uint8), levels(0, level)
    dataset = as_set(tmp_path, part, whole, np.zeros(SIZE, np.uint8))
    contents = dataset.check(3)
    assert dataset[1]["mask"].all() and (contents.empty, contents.full) == (1, 1)
    assert contents.lines() == ["3 masks: 1 mark a part, 1 empty (pristine), 1 all forged"]


def test_all_of_one_colour_is_forged_where_the_set_has_no_other(tmp_path: Path) -> None:
    pink = (220, 20, 60)
    whole, black = colours(pink, pink), np.zeros(SIZE, np.uint8)
    dataset = as_set(tmp_path, whole, colours(BLACK, pink), black)
    assert dataset[0]["mask"].all() and np.array_equal(dataset[1]["mask"], FORGED)


@pytest.mark.parametrize("other", [levels(0, 255), smooth(5), np.full(SIZE, 255, np.uint8)])
def test_all_of_one_level_among_other_levels_is_refused(tmp_path: Path, other) -> None:
    dataset = as_set(tmp_path, np.full(SIZE, 1, np.uint8), other)
    with pytest.raises(InputError, match=r"0.png holds 1 alone, and \S*1.png other values") as one:
        dataset.check(1)
    assert "\n" not in str(one.value)
    assert dataset.mask(1).any()
