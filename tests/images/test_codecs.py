"""Every kind of file: decoded as it is, and written so that nothing but pixels changes."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from ansm_fast.images import atomic
from ansm_fast.images.atomic import write_bytes
from ansm_fast.images.photograph import BadImage, Photograph
from ansm_fast.images.read import read_photograph
from ansm_fast.images.write import encode_png

SIZE = (40, 56)
LIMIT = 10_000
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif_turned() -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    exif[271] = "maker"
    return exif.tobytes()


def colours(rng: np.random.Generator, channels: int, dtype: type = np.uint8) -> np.ndarray:
    high = np.iinfo(dtype).max
    return rng.integers(0, high, (*SIZE, channels), dtype, endpoint=True)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_eight_bits(tmp_path: Path, rng: np.random.Generator, mode: str, suffix: str) -> None:
    pixels = colours(rng, len(mode)).squeeze()
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels, mode).save(path)
    image = read_photograph(path, LIMIT)
    stored = pixels.reshape(*SIZE, -1)
    assert np.array_equal(image.pixels, stored[:, :, : 1 if mode[0] == "L" else 3])
    assert (image.alpha is not None) == mode.endswith("A")
    again = Image.open(io.BytesIO(encode_png(image)))
    assert again.mode == mode and np.array_equal(np.asarray(again), pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits(tmp_path: Path, rng: np.random.Generator, channels: int, suffix: str) -> None:
    pixels = colours(rng, channels, np.uint16)
    path = tmp_path / f"a.{suffix}"
    if suffix == "tif":
        extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
        kind = "minisblack" if channels == 1 else "rgb"
        tifffile.imwrite(path, pixels.squeeze(), photometric=kind, iccprofile=SRGB, **extra)
    else:
        order = [0] if channels == 1 else [2, 1, 0, 3][:channels]
        cv2.imwrite(str(path), pixels[:, :, order])
    image = read_photograph(path, LIMIT)
    assert image.depth == 16 and np.array_equal(image.pixels, pixels[:, :, : min(channels, 3)])
    path.write_bytes(encode_png(image))
    again = read_photograph(path, LIMIT)
    assert np.array_equal(again.pixels, image.pixels)
    if channels == 4:
        assert image.alpha is not None and np.array_equal(again.alpha, pixels[:, :, 3])
    if suffix == "tif":
        assert again.icc == image.icc == SRGB


def test_planar_and_inverted_tiff(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = colours(rng, 3, np.uint16)
    planar, inverted = tmp_path / "planar.tif", tmp_path / "inverted.tif"
    tifffile.imwrite(planar, np.moveaxis(pixels, 2, 0), photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_photograph(planar, LIMIT).pixels, pixels)
    tifffile.imwrite(inverted, pixels[:, :, 0], photometric="miniswhite")
    assert np.array_equal(read_photograph(inverted, LIMIT).pixels, 65535 - pixels[:, :, :1])


def test_compressed_sixteen_bit_tiff(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = colours(rng, 3, np.uint16)
    path = tmp_path / "lzw.tif"
    cv2.imwrite(str(path), pixels[:, :, ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    assert np.array_equal(read_photograph(path, LIMIT).pixels, pixels)


def test_sixteen_bit_grey_with_alpha_goes_out_as_rgba(rng: np.random.Generator) -> None:
    both = colours(rng, 2, np.uint16)
    encoded = encode_png(Photograph(both[:, :, :1], both[:, :, 1]))
    out = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(out, both[:, :, [0, 0, 0, 1]])


def test_palette_with_and_without_transparency(tmp_path: Path, rng: np.random.Generator) -> None:
    palette = Image.fromarray(colours(rng, 3)).quantize(16)
    palette.save(tmp_path / "p.png")
    palette.save(tmp_path / "t.png", transparency=0)
    plain = read_photograph(tmp_path / "p.png", LIMIT)
    clear = read_photograph(tmp_path / "t.png", LIMIT)
    assert np.array_equal(plain.pixels, np.asarray(palette.convert("RGB"))) and plain.alpha is None
    assert clear.alpha is not None
    assert np.array_equal(clear.alpha == 0, np.asarray(palette) == 0)


@pytest.mark.parametrize("profile", [None, b"no profile"])
def test_cmyk_jpeg_becomes_rgb(
    tmp_path: Path, rng: np.random.Generator, profile: bytes | None
) -> None:
    path = tmp_path / "cmyk.jpg"
    Image.fromarray(colours(rng, 3)).convert("CMYK").save(path, icc_profile=profile)
    image = read_photograph(path, LIMIT)
    assert np.array_equal(image.pixels, np.asarray(Image.open(path).convert("RGB")))
    assert "CMYK" in image.note and image.icc is None


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_orientation_and_profile_are_kept(
    tmp_path: Path, rng: np.random.Generator, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(colours(rng, 3)).save(path, exif=exif_turned(), icc_profile=SRGB)
    image = read_photograph(path, LIMIT)
    # As stored, not turned: the tag that turns it goes along.
    assert (image.height, image.width) == SIZE
    again = Image.open(io.BytesIO(encode_png(image)))
    again.load()
    assert again.getexif()[274] == 6 and again.getexif()[271] == "maker"
    assert again.info["icc_profile"] == SRGB


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_is_turned_upright(
    tmp_path: Path, rng: np.random.Generator, orientation: int, dtype: type
) -> None:
    pixels = colours(rng, 1, dtype)[:, :, 0]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", extratags=[(274, 3, 1, orientation)])
    image = read_photograph(path, LIMIT)
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(pixels)
    stored.info["exif"] = exif.tobytes()
    expected = ImageOps.exif_transpose(stored)
    assert np.array_equal(image.pixels[:, :, 0], np.asarray(expected))
    again = Image.open(io.BytesIO(encode_png(image)))
    assert 274 not in again.getexif()


def test_sixteen_bit_png_keeps_metadata(tmp_path: Path, rng: np.random.Generator) -> None:
    raw = exif_turned().removeprefix(b"Exif\0\0")
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(Photograph(colours(rng, 3, np.uint16), icc=SRGB, exif=raw)))
    image = read_photograph(path, LIMIT)
    assert (image.depth, image.icc, image.exif) == (16, SRGB, raw)


def test_further_frames_are_noted(tmp_path: Path, rng: np.random.Generator) -> None:
    frames = [Image.fromarray(colours(rng, 3)) for _ in range(2)]
    path = tmp_path / "a.tif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    image = read_photograph(path, LIMIT)
    assert image.note == "first of 2 frames"
    assert np.array_equal(image.pixels, np.asarray(frames[0]))


def encoded(rng: np.random.Generator, suffix: str, dtype: type = np.uint8) -> bytes:
    return cv2.imencode(f".{suffix}", colours(rng, 3, dtype))[1].tobytes()


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        *((suffix, np.uint8) for suffix in ("jpg", "png", "webp", "tif")),
        *((suffix, np.uint16) for suffix in ("png", "tif")),
    ],
)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused(
    tmp_path: Path, rng: np.random.Generator, suffix: str, dtype: type, share: float
) -> None:
    data = encoded(rng, suffix, dtype)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadImage):
        read_photograph(path, LIMIT)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"just text, no image", "not a JPEG"), (b"GIF89a" + bytes(99), "not a JPEG")],
)
def test_other_content_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(BadImage, match=reason):
        read_photograph(path, LIMIT)


@pytest.mark.parametrize(
    ("suffix", "dtype"), [("png", np.uint8), ("png", np.uint16), ("tif", np.uint16)]
)
def test_huge_files_are_refused_before_they_are_decoded(
    tmp_path: Path, rng: np.random.Generator, suffix: str, dtype: type
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(encoded(rng, suffix, dtype))
    reserved: list[int] = []
    with pytest.raises(BadImage, match="56x40 = 2240 pixels, more than --max-pixels 2239"):
        read_photograph(path, 2239, reserved.append)
    assert reserved == []
    read_photograph(path, 2240, reserved.append)
    assert reserved == [2240]


def test_unreadable_and_unsupported(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="cannot be read"):
        read_photograph(tmp_path, LIMIT)
    floating = tmp_path / "f.tif"
    tifffile.imwrite(floating, np.zeros((8, 8), np.float32))
    with pytest.raises(BadImage, match="float32"):
        read_photograph(floating, LIMIT)


def test_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "a.png"
    path.parent.mkdir()
    write_bytes(path, b"old")

    def fail(*_paths: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(atomic.os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]
