"""TIFF of 8 and 16 bits: whatever way it is stored, the pixels are those that were written."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from ansm_fast.images.photograph import BadImage
from ansm_fast.images.read import read_photograph
from ansm_fast.images.tiff import straight

SIZE = (21, 34)
LIMIT = 10_000
ALPHA = {0: "unspecified", 1: "assocalpha", 2: "unassalpha"}
STORED = [
    dict(zip(("planar", "compression", "predictor", "tile", "byteorder"), values, strict=True))
    for values in itertools.product(
        ("contig", "separate"), (None, "lzw", "zlib", "packbits"), (False, True),
        (None, (16, 16)), ("<", ">"),
    )
]  # fmt: skip


def samples(rng: np.random.Generator, count: int, dtype: type = np.uint16) -> np.ndarray:
    return rng.integers(0, np.iinfo(dtype).max, (*SIZE, count), dtype, endpoint=True)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """By Pillow, one plane after the other."""
    exif = Image.Exif()
    exif[274] = orientation
    planes = []
    for plane in np.moveaxis(pixels, 2, 0):
        image = Image.fromarray(np.ascontiguousarray(plane))
        image.info["exif"] = exif.tobytes()
        planes.append(np.asarray(ImageOps.exif_transpose(image)))
    return np.stack(planes, 2)


def write(path: Path, pixels: np.ndarray, photometric: str, extra: list[str], **how) -> None:
    stored = np.moveaxis(pixels, 2, 0) if how["planar"] == "separate" else pixels
    if pixels.shape[2] == 1:
        stored = pixels[:, :, 0]
    tifffile.imwrite(
        path, stored, photometric=photometric, extrasamples=extra or None, metadata=None,
        planarconfig=how["planar"] if pixels.shape[2] > 1 else None,
        compression=how["compression"], tile=how["tile"], byteorder=how["byteorder"],
        predictor=how["predictor"] if how["compression"] in ("lzw", "zlib") else None,
        extratags=[(274, 3, 1, how.get("orientation", 1), True)],
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("number", range(len(STORED)))
def test_however_it_is_stored(tmp_path, rng, number, dtype) -> None:
    how = STORED[number] | {"orientation": 1 + number % 8}
    for photometric, meaning in itertools.product(
        ("minisblack", "miniswhite", "rgb"), (None, 0, 1, 2)
    ):
        count = 3 if photometric == "rgb" else 1
        pixels = samples(rng, count + (meaning is not None), dtype)
        path = tmp_path / "a.tif"
        write(path, pixels, photometric, [] if meaning is None else [ALPHA[meaning]], **how)
        image = read_photograph(path, LIMIT)
        wanted = turned(pixels, how["orientation"])
        colours = wanted[:, :, :count]
        if photometric == "miniswhite":
            colours = np.iinfo(dtype).max - colours
        if meaning == 1:
            colours = straight(colours, wanted[:, :, count])
        assert np.array_equal(image.pixels, colours), (how, photometric, meaning)
        if meaning in (None, 0):
            assert image.alpha is None
            assert ("1 extra sample of a pixel left out" in image.note) == (meaning == 0)
        else:
            assert np.array_equal(image.alpha, wanted[:, :, count]) and not image.note


def test_alpha_is_divided_out_as_at_eight_bits() -> None:
    """Pillow's own rule, on every pair of 8-bit values where colour is at most alpha."""
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256))
    both = np.stack([colour] * 3 + [alpha], 2).astype(np.uint8)
    by_pillow = np.asarray(Image.frombytes("RGBa", (256, 256), both.tobytes()).convert("RGBA"))
    ours = straight(both[:, :, :3], both[:, :, 3])
    valid = colour <= alpha
    assert np.abs(ours.astype(int) - by_pillow[:, :, :3])[valid].max() <= 1
    deep = straight(np.full((1, 1, 3), 30000, np.uint16), np.full((1, 1), 40000, np.uint16))
    assert (deep == round(30000 * 65535 / 40000)).all()
    assert (straight(np.full((1, 1, 3), 9, np.uint16), np.zeros((1, 1), np.uint16)) == 9).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_cut_pixels_are_not_filled_up(tmp_path, rng, dtype, compression, share) -> None:
    """Readers of TIFF give what is missing as black."""
    path = tmp_path / "a.tif"
    pixels = rng.integers(0, 99, (64, 64, 3)).astype(dtype)
    tifffile.imwrite(
        path, pixels, photometric="rgb", compression=compression, rowsperstrip=8, metadata=None
    )
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BadImage, match="truncated or damaged"):
        read_photograph(path, LIMIT)


def test_several_extra_samples(tmp_path, rng) -> None:
    pixels = samples(rng, 5)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=[0, 2], metadata=None
    )
    image = read_photograph(tmp_path / "a.tif", LIMIT)
    assert np.array_equal(image.pixels, pixels[:, :, :3])
    assert np.array_equal(image.alpha, pixels[:, :, 4]) and "1 extra sample" in image.note


@pytest.mark.parametrize(
    ("dtype", "options", "said"),
    [
        (np.uint16, {"bitspersample": 12, "compression": "zlib"}, "samples of 12 bits"),
        (np.float32, {}, "samples of type float32"),
        (np.int16, {}, "samples of type int16"),
    ],
)
def test_other_samples_are_refused(tmp_path, dtype, options, said) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros(SIZE, dtype), photometric="minisblack", metadata=None)
    if "bitspersample" in options:
        with tifffile.TiffFile(path, mode="r+") as file:
            file.pages.first.tags["BitsPerSample"].overwrite(12)
    with pytest.raises(BadImage, match=said):
        read_photograph(path, LIMIT)


def test_more_samples_than_an_image_has_are_refused_before_they_are_decoded(tmp_path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((4, 4, 2), np.uint8), photometric="minisblack", metadata=None,
                     planarconfig="contig")  # fmt: skip
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["SamplesPerPixel"].overwrite(60000)
    with pytest.raises(BadImage, match="60000 samples a pixel"):
        read_photograph(path, LIMIT)


def test_odd_tags_of_the_resolution_do_no_harm(tmp_path, rng) -> None:
    path = tmp_path / "a.tif"
    pixels = samples(rng, 3)
    tifffile.imwrite(path, pixels, photometric="rgb", resolution=(1, 1), metadata=None,
                     extratags=[(34675, 2, 3, "icc", True), (700, 3, 1, 5, True)])  # fmt: skip
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["XResolution"].overwrite((1, 0))
    image = read_photograph(path, LIMIT)
    assert np.array_equal(image.pixels, pixels) and image.icc is None and image.chunks == b""


def test_resolution_is_kept(tmp_path, rng) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, samples(rng, 3), photometric="rgb", resolution=(100, 50), resolutionunit="centimeter",
        metadata=None,
    )  # fmt: skip
    chunks = read_photograph(path, LIMIT).chunks
    assert b"pHYs" in chunks and (10000).to_bytes(4, "big") + (5000).to_bytes(4, "big") in chunks
