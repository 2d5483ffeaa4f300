"""What is written comes back: every format, pixel by pixel, with what goes along."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from ansm_fast.images import png_chunks
from ansm_fast.images.formats import EFFORTS, SUFFIXES
from ansm_fast.images.photograph import Photograph
from ansm_fast.images.read import read_photograph
from ansm_fast.images.write import encode, encode_png

SIZE = (21, 34)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
KINDS = [(count, alpha, dtype) for count in (1, 3) for alpha in (0, 1) for dtype in ("u1", "u2")]


def photograph(count: int, alpha: int, dtype: str, **extra: object) -> Photograph:
    rng = np.random.default_rng(0)
    high = np.iinfo(dtype).max
    smooth = np.linspace(0, high, SIZE[1])[None, :, None] * np.ones((*SIZE, count))
    noise = rng.integers(0, high // 9, (*SIZE, count))
    pixels = np.clip(smooth + noise, 0, high).astype(dtype)
    clear = rng.integers(0, high, SIZE, dtype, endpoint=True) if alpha else None
    return Photograph(pixels, clear, **extra)  # type: ignore[arg-type]


def exif() -> bytes:
    block = Image.Exif()
    block[271], block[274] = "maker", 6
    block.get_ifd(0x8769)[36867] = "2026:01:02 03:04:05"
    block.get_ifd(0x8825)[1] = "N"
    return block.tobytes().removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize(("count", "alpha", "dtype"), KINDS)
@pytest.mark.parametrize("kind", SUFFIXES)
def test_pixels_come_back(
    tmp_path: Path, kind: str, count: int, alpha: int, dtype: str, effort: str
) -> None:
    image = photograph(count, alpha, dtype)
    written = encode(image, kind, effort)
    path = tmp_path / f"a{written.suffix}"
    path.write_bytes(written.content)
    again = read_photograph(path, 10_000)
    assert np.array_equal(again.pixels, np.broadcast_to(image.pixels, again.pixels.shape))
    assert (again.alpha is None) == (image.alpha is None)
    assert image.alpha is None or np.array_equal(again.alpha, image.alpha)
    webp_as_png = kind == "webp" and dtype == "u2"
    assert written.suffix == (".png" if webp_as_png else SUFFIXES[kind])
    assert written.note == ("PNG, since WebP cannot hold 16 bits a sample" if webp_as_png else "")
    if kind != "webp" and not (dtype == "u2" and alpha):  # whose readers give RGB
        assert again.grey == image.grey


@pytest.mark.parametrize(("count", "alpha", "dtype"), KINDS)
@pytest.mark.parametrize("effort", EFFORTS)
def test_png_as_other_readers_see_it(count: int, alpha: int, dtype: str, effort: str) -> None:
    image = photograph(count, alpha, dtype)
    content = encode_png(image, effort == "small")
    Image.open(io.BytesIO(content)).verify()
    seen = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    seen = seen[:, :, None] if seen.ndim == 2 else seen
    if seen.shape[2] >= 3:
        assert np.array_equal(seen[:, :, 2::-1], np.broadcast_to(image.pixels, (*SIZE, 3)))
    else:
        assert np.array_equal(seen, image.pixels)
    assert image.alpha is None or np.array_equal(seen[:, :, -1], image.alpha)
    assert content[25] == {(1, 0): 0, (1, 1): 4, (3, 0): 2, (3, 1): 6}[count, alpha]


@pytest.mark.parametrize(("count", "alpha", "dtype"), KINDS)
def test_tiff_as_another_reader_sees_it(count: int, alpha: int, dtype: str) -> None:
    image = photograph(count, alpha, dtype)
    seen = tifffile.imread(io.BytesIO(encode(image, "tiff").content)).reshape(*SIZE, -1)
    assert np.array_equal(seen[:, :, :count], image.pixels)
    assert image.alpha is None or np.array_equal(seen[:, :, count], image.alpha)
    if dtype == "u1":
        assert Image.open(io.BytesIO(encode(image, "tiff").content)).mode == (
            "L" if count == 1 else "RGB"
        ) + ("A" * alpha)


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (300, 7)])
@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_thin_images_and_blocks(
    monkeypatch, shape: tuple[int, int], small: bool, streamed: bool, dtype: str
) -> None:
    monkeypatch.setattr("ansm_fast.images.png_encode._BLOCK", 50)
    if streamed:
        monkeypatch.setattr("ansm_fast.images.png_encode._LARGE", 0)
        monkeypatch.setattr("ansm_fast.images.png_encode._STREAMED", 100)
    pixels = np.random.default_rng(0).integers(0, 1 << 8 * int(dtype[1]), (*shape, 3), dtype)
    content = encode_png(Photograph(pixels), small)
    assert np.array_equal(imagecodecs.png_decode(content).reshape(pixels.shape), pixels)


def test_a_large_image_is_compressed_in_little_memory() -> None:
    pixels = np.zeros((6000, 8000, 3), np.uint8)
    pixels[::2] = np.arange(8000, dtype=np.uint8)[:, None]
    encode_png(Photograph(pixels[:10]))  # what is loaded once
    tracemalloc.start()
    content = encode_png(Photograph(pixels))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * len(content) + (64 << 20) < pixels.nbytes


def test_small_is_smaller() -> None:
    image = photograph(3, 0, "u1")
    assert len(encode(image, "png", "small").content) < len(encode(image, "png").content)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("kind", SUFFIXES)
def test_metadata_goes_along(tmp_path: Path, kind: str, dtype: str) -> None:
    chunks = png_chunks.resolution((300, 150)) + png_chunks.xmp(XMP)
    image = photograph(3, 0, dtype, icc=SRGB, exif=exif(), chunks=chunks)
    written = encode(image, kind)
    if kind == "webp" and dtype == "u2":
        return
    seen = Image.open(io.BytesIO(written.content)) if dtype == "u1" or kind != "tiff" else None
    if seen is not None:
        seen.load()
        assert seen.info["icc_profile"] == SRGB
        turned = seen.getexif()
        assert turned[271] == "maker" and turned.get_ifd(0x8769)[36867] == "2026:01:02 03:04:05"
        assert turned.get_ifd(0x8825)[1] == "N"
        packet = seen.info.get("xmp") or seen.info.get("XML:com.adobe.xmp")
        assert packet in (XMP, XMP.decode())
        if kind == "webp":
            assert written.note == "WebP cannot keep: resolution"
        else:
            assert seen.info["dpi"] == pytest.approx((300, 150), abs=0.02) and not written.note
            # Pillow turns a TIFF, and so do viewers, as they turn the others by their EXIF.
            assert seen.size == (SIZE if kind == "tiff" else SIZE[::-1])
    path = tmp_path / f"a{written.suffix}"
    path.write_bytes(written.content)
    again = read_photograph(path, 10_000)
    assert again.icc == SRGB
    upright = np.rot90(image.pixels, -1) if kind == "tiff" else image.pixels
    assert np.array_equal(again.pixels, upright)
    kept = png_chunks.described(again.chunks)
    assert kept.xmp == XMP
    if kind != "webp":
        assert kept.resolution == pytest.approx((11811, 5906), abs=1)
    block = Image.Exif()
    block.load(b"Exif\0\0" + (again.exif or b""))
    assert block[271] == "maker" and block.get_ifd(0x8769)[36867] == "2026:01:02 03:04:05"


@pytest.mark.parametrize(("kind", "name"), [("webp", "WebP"), ("tiff", "TIFF")])
def test_what_is_not_kept_is_named(kind: str, name: str) -> None:
    gamma = png_chunks.chunk(b"gAMA", (100000).to_bytes(4, "big"))
    text = png_chunks.comment(b"a comment")
    plain = photograph(3, 0, "u1", chunks=gamma + text)
    assert encode(plain, kind).note == f"{name} cannot keep: colour chunks (gAMA), text"
    said = photograph(3, 0, "u1", chunks=png_chunks.chunk(b"sRGB", b"\0") + gamma)
    assert encode(said, kind).note == ""
    assert encode(plain, "png").note == ""


def test_a_damaged_exif_is_left_out_of_a_tiff() -> None:
    image = photograph(3, 0, "u1", exif=b"II*\0\x08\0\0\0\xff\xffgarbage")
    written = encode(image, "tiff")
    assert np.array_equal(tifffile.imread(io.BytesIO(written.content)), image.pixels)


def test_packed_xmp_is_unpacked_up_to_a_bound(monkeypatch) -> None:
    import zlib

    packed = png_chunks.chunk(
        b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP + bytes(5000))
    )
    assert png_chunks.described(packed).xmp == XMP + bytes(5000)
    monkeypatch.setattr(png_chunks, "MAX_PROFILE", 1000)
    assert png_chunks.described(packed).xmp == b""


def test_large_webp_becomes_png() -> None:
    image = Photograph(np.zeros((1, 16384, 3), np.uint8))
    written = encode(image, "webp")
    assert written.suffix == ".png" and "more than 16383 pixels" in written.note
