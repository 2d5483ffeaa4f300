"""What is no pixel of an image goes along with it, or is named."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ansm_fast.images import png_chunks
from ansm_fast.images.photograph import BadImage
from ansm_fast.images.png_chunks import chunk, chunks, content
from ansm_fast.images.read import read_photograph
from ansm_fast.images.write import encode_png

SIZE = (9, 14)
LIMIT = 10_000
# Kind and content of chunks that a PNG may have.
DESCRIBING = [
    (b"gAMA", (100000).to_bytes(4, "big")),
    (b"cHRM", bytes(range(32))),
    (b"sRGB", b"\1"),
    (b"cICP", bytes([9, 16, 0, 1])),
    (b"mDCV", bytes(24)),
    (b"cLLI", bytes(8)),
    (b"pHYs", (3780).to_bytes(4, "big") * 2 + b"\1"),
    (b"tEXt", b"Title\0a title"),
    (b"zTXt", b"Description\0\0" + zlib.compress(b"long " * 99)),
    (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta/>"),
]


def png(rng: np.random.Generator, dtype: type, *extra: bytes, channels: int = 3) -> bytes:
    high = np.iinfo(dtype).max
    pixels = rng.integers(0, high, (*SIZE, channels), dtype, endpoint=True).squeeze()
    data = cv2.imencode(".png", pixels)[1].tobytes()
    return data[:33] + b"".join(extra) + data[33:]


def read(path: Path, data: bytes):
    path.write_bytes(data)
    return read_photograph(path, LIMIT)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("kind", "value"), DESCRIBING)
def test_chunks_of_a_png_are_kept(tmp_path, rng, dtype, kind, value) -> None:
    image = read(tmp_path / "a.png", png(rng, dtype, chunk(kind, value)))
    out = encode_png(image)
    found = [content(out, start, end) for name, start, end in chunks(out) if name == kind]
    assert found == [value]
    Image.open(io.BytesIO(out)).load()
    again = read(tmp_path / "b.png", out)
    assert np.array_equal(again.pixels, image.pixels) and again.chunks == image.chunks


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_much_compressed_metadata_is_no_damage(tmp_path, rng, dtype) -> None:
    """What Pillow calls a decompression bomb."""
    text = chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(4 << 20)))
    profile = bytes(3 << 20)
    icc = chunk(b"iCCP", b"p\0\0" + zlib.compress(profile))
    bare = png(rng, dtype)
    data = bare[:33] + text + icc + bare[33:]
    with pytest.raises(ValueError, match="Decompressed data too large"):
        Image.open(io.BytesIO(data)).load()
    image = read(tmp_path / "a.png", data)
    assert text in image.chunks and image.icc == profile
    assert np.array_equal(image.pixels, read(tmp_path / "b.png", bare).pixels)
    assert PngImagePlugin.MAX_TEXT_CHUNK == 1 << 20  # nobody else's limit was moved


def test_a_profile_beyond_the_bound_is_named(tmp_path, rng, monkeypatch) -> None:
    monkeypatch.setattr(png_chunks, "MAX_PROFILE", 1 << 20)
    data = png(rng, np.uint8, chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes((1 << 20) + 1))))
    with pytest.raises(BadImage, match="colour profile of more than 1 MiB"):
        read(tmp_path / "a.png", data)


def test_a_damaged_text_is_left_out(tmp_path, rng) -> None:
    broken = bytearray(chunk(b"tEXt", b"Title\0a title"))
    broken[12] ^= 1
    whole = chunk(b"tEXt", b"Title\0another")
    image = read(tmp_path / "a.png", png(rng, np.uint8, bytes(broken), whole))
    assert image.chunks == whole


def test_what_stands_behind_the_image_belongs_to_nothing(tmp_path, rng) -> None:
    data = png(rng, np.uint8) + chunk(b"tEXt", b"Title\0smuggled") * 3
    assert read(tmp_path / "a.png", data).chunks == b""


def test_a_cut_profile_is_none(tmp_path, rng) -> None:
    packed = zlib.compress(bytes(range(256)) * 9)
    image = read(tmp_path / "a.png", png(rng, np.uint8, chunk(b"iCCP", b"p\0\0" + packed[:-9])))
    assert image.icc is None


def test_transparent_grey_of_sixteen_bits(tmp_path, rng) -> None:
    pixels = rng.integers(0, 4, SIZE).astype(np.uint16) * 16000
    data = cv2.imencode(".png", pixels)[1].tobytes()
    data = data[:33] + chunk(b"tRNS", (32000).to_bytes(2, "big")) + data[33:]
    image = read(tmp_path / "a.png", data)
    assert np.array_equal(image.pixels[:, :, 0], pixels)
    assert np.array_equal(image.alpha, np.where(pixels == 32000, 0, 65535))


@pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp"])
def test_resolution_xmp_and_comment_of_other_formats(tmp_path, rng, suffix) -> None:
    path, packet = tmp_path / f"a.{suffix}", b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    options = {
        "jpg": {"dpi": (300, 300), "xmp": packet, "comment": b"a comment"},
        "webp": {"xmp": packet},
        "bmp": {"dpi": (300, 300)},
    }[suffix]
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(path, **options)
    out = Image.open(io.BytesIO(encode_png(read_photograph(path, LIMIT))))
    out.load()
    if "dpi" in options:
        assert out.info["dpi"] == pytest.approx((300, 300), abs=0.02)
    if "xmp" in options:
        assert out.info["XML:com.adobe.xmp"].encode() == packet
    if "comment" in options:
        assert out.info["Comment"] == "a comment"


def test_the_still_image_of_an_animation(tmp_path, rng) -> None:
    """OpenCV and Pillow must take the image that a viewer without animation shows."""
    still = png(rng, np.uint16)
    frame = png(rng, np.uint16)
    kinds = {name: content(frame, start, end) for name, start, end in chunks(frame)}
    control = (0).to_bytes(4, "big") + SIZE[1].to_bytes(4, "big") + SIZE[0].to_bytes(4, "big")
    control += bytes(8) + (1).to_bytes(2, "big") * 2 + bytes(2)
    moving = chunk(b"fcTL", control) + chunk(b"fdAT", (1).to_bytes(4, "big") + kinds[b"IDAT"])
    animated = still[:33] + chunk(b"acTL", (1).to_bytes(4, "big") + bytes(4)) + still[33:-12]
    image = read(tmp_path / "a.png", animated + moving + still[-12:])
    plain = read(tmp_path / "b.png", still)
    assert np.array_equal(image.pixels, plain.pixels) and not plain.note
    assert image.note == "still image of 1 animated frames"
