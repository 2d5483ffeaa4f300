"""Photographs of every kind that the formats hold, read as they are stored."""

from __future__ import annotations

import io
import os
import runpy
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

import ansm_fast
from ansm_fast.data import FolderDataset, find_images, read_mask, read_rgb
from ansm_fast.data.synthesis import synthesize
from ansm_fast.errors import InputError
from ansm_fast.images.find import left_out_lines
from ansm_fast.images.write import write_png

RNG = np.random.default_rng(0)
SMOOTH = cv2.resize(RNG.integers(0, 256, (5, 6, 3), np.uint8), (40, 24))
NOISE = RNG.integers(0, 256, (24, 40, 4), np.uint8)
DEEP = RNG.integers(0, 65536, (24, 40, 3), np.uint16)


def pil(image: Image.Image | np.ndarray, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(buffer, form, **options)
    return buffer.getvalue()


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def rounded(pixels: np.ndarray) -> np.ndarray:
    return np.round(pixels / 257).astype(np.uint8)


def grey(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[:, :, :1], 3, axis=2)


PALETTE = Image.fromarray(NOISE[:, :, :3]).quantize(16)
ONE_BIT = NOISE[:, :, 0] > 127
CMYK = Image.fromarray(SMOOTH).convert("CMYK")
JPEG_OF_CMYK = pil(CMYK, "JPEG", quality=95)
FRAMES = [Image.fromarray(255 - NOISE[:, :, :3])]

KINDS: dict[str, tuple[bytes, np.ndarray, int]] = {
    "16-bit PNG": (cv2.imencode(".png", DEEP[:, :, ::-1])[1].tobytes(), rounded(DEEP), 0),
    "16-bit grey PNG": (cv2.imencode(".png", DEEP[:, :, 0])[1].tobytes(), grey(rounded(DEEP)), 0),
    "16-bit TIFF": (tiff(DEEP, photometric="rgb"), rounded(DEEP), 0),
    "16-bit TIFF, deflate": (tiff(DEEP, photometric="rgb", compression="zlib"), rounded(DEEP), 0),
    "16-bit grey TIFF": (tiff(DEEP[:, :, 0], photometric="minisblack"), grey(rounded(DEEP)), 0),
    "white is zero, 16 bits": (tiff(DEEP[:, :, 0], photometric="miniswhite"),
                               grey(rounded(65535 - DEEP)), 0),
    "white is zero": (tiff(NOISE[:, :, 0], photometric="miniswhite"), grey(255 - NOISE), 0),
    "planes apart": (tiff(NOISE[:, :, :3].transpose(2, 0, 1), photometric="rgb",
                          planarconfig="separate"), NOISE[:, :, :3], 0),
    "tiles": (tiff(NOISE[:, :, :3], photometric="rgb", tile=(16, 16)), NOISE[:, :, :3], 0),
    "LZW": (pil(NOISE[:, :, :3], "TIFF", compression="tiff_lzw"), NOISE[:, :, :3], 0),
    "alpha in PNG": (pil(NOISE, "PNG"), NOISE[:, :, :3], 0),
    "alpha in TIFF": (pil(NOISE, "TIFF"), NOISE[:, :, :3], 0),
    "alpha in WebP": (pil(NOISE, "WEBP", lossless=True, exact=True), NOISE[:, :, :3], 0),
    "grey with alpha": (pil(NOISE[:, :, :2], "PNG"), grey(NOISE), 0),
    "grey with alpha in TIFF": (pil(NOISE[:, :, :2], "TIFF"), grey(NOISE), 0),
    "palette": (pil(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB")), 0),
    "palette with transparency": (pil(PALETTE, "PNG", transparency=0),
                                  np.asarray(PALETTE.convert("RGB")), 0),
    "palette in TIFF": (pil(PALETTE, "TIFF"), np.asarray(PALETTE.convert("RGB")), 0),
    "palette in BMP": (pil(PALETTE, "BMP"), np.asarray(PALETTE.convert("RGB")), 0),
    "1-bit PNG": (pil(ONE_BIT, "PNG"), grey(ONE_BIT[:, :, None] * np.uint8(255)), 0),
    "1-bit TIFF": (pil(ONE_BIT, "TIFF", compression="group4"),
                   grey(ONE_BIT[:, :, None] * np.uint8(255)), 0),
    "CMYK JPEG": (JPEG_OF_CMYK, np.asarray(Image.open(io.BytesIO(JPEG_OF_CMYK)).convert("RGB")), 3),
    "CMYK TIFF": (pil(CMYK, "TIFF"), np.asarray(CMYK.convert("RGB")), 1),
    "grey JPEG": (pil(SMOOTH[:, :, 0], "JPEG", quality=95), grey(SMOOTH), 8),
    "animated PNG": (pil(NOISE[:, :, :3], "PNG", save_all=True, append_images=FRAMES),
                     NOISE[:, :, :3], 0),
    "animated WebP": (pil(NOISE[:, :, :3], "WEBP", save_all=True, append_images=FRAMES,
                          lossless=True), NOISE[:, :, :3], 0),
    "pages of a TIFF": (pil(NOISE[:, :, :3], "TIFF", save_all=True, append_images=FRAMES),
                        NOISE[:, :, :3], 0),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_read_rightly(tmp_path: Path, name: str) -> None:
    content, expected, tolerance = KINDS[name]
    (tmp_path / "a.png").write_bytes(content)  # the content counts, not the name
    found = read_rgb(tmp_path / "a.png")
    assert found.shape == expected.shape and found.dtype == np.uint8 and found.flags.carray
    assert np.abs(found.astype(int) - expected).max() <= tolerance


FLOAT = RNG.random((24, 40)).astype(np.float32)
JPEG = pil(SMOOTH, "JPEG")
REFUSED: dict[str, tuple[bytes, str]] = {
    "float": (tiff(FLOAT), "it has samples of type float32"),
    "float RGB": (tiff(np.dstack([FLOAT] * 3), photometric="rgb"), "it has samples of type float"),
    "32-bit integers": (tiff((FLOAT * 1e6).astype(np.int32)), "it has samples of type int32"),
    "signed 16-bit": (tiff((FLOAT * 1e4).astype(np.int16)), "it has samples of type int16"),
    "animated GIF": (pil(NOISE[:, :, :3], "GIF", save_all=True, append_images=FRAMES),
                     "it is neither JPEG, PNG, TIFF, WebP nor BMP"),
    "empty": (b"", "it is empty"),
    "text": (b"no image", "it is neither JPEG"),
    "half a JPEG": (JPEG[:-100], "it is cut short"),
    "a JPEG without its end": (JPEG[:-2], "it is cut short"),
    "half a PNG": (pil(NOISE, "PNG")[:2000], "it is damaged"),
    "half a TIFF": (pil(NOISE, "TIFF")[:2000], "it is"),
    "half a WebP": (pil(NOISE, "WEBP", lossless=True)[:2000], "it is damaged"),
    "half a BMP": (pil(NOISE[:, :, :3], "BMP")[:2000], "it is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_named(tmp_path: Path, name: str) -> None:
    content, reason = REFUSED[name]
    (tmp_path / "a.png").write_bytes(content)
    for read, kind in ((read_rgb, "image"), (read_mask, "mask")):
        with pytest.raises(
            InputError, match=rf"cannot decode {kind} \S*a.png; .*\({reason}"
        ) as one:
            read(tmp_path / "a.png")
        assert "\n" not in str(one.value)


def test_what_is_no_file_is_left_out_and_told(tmp_path: Path, monkeypatch) -> None:
    """And never waited for."""
    photos = tmp_path / "photos"
    write_png(photos / "a.png", NOISE[:, :, :3])
    write_png(photos / "folder.png" / "b.png", NOISE[:, :, :3])
    os.mkfifo(photos / "pipe.png")
    (photos / "zero.jpg").symlink_to("/dev/zero")
    (photos / "gone.tif").symlink_to("nowhere")
    (photos / "self.tif").symlink_to("self.tif")
    for index in range(3):
        (photos / f"{index}.gif").write_bytes(b"GIF89a")
        (photos / f"._{index}.png").write_bytes(b"as macOS leaves them")
    left_out: dict[str, list[Path]] = {}
    monkeypatch.chdir(photos)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")
        found = find_images(photos, left_out)
    assert [path.name for path in found] == ["a.png", "b.png"]
    assert sorted(left_out_lines(left_out)) == sorted(
        f"left out: {photos}/{line}"
        for line in (
            "folder.png is a folder", "pipe.png is a named pipe", "zero.jpg is a device",
            "gone.tif is a broken link", "self.tif is a broken link", "socket.png is a socket",
            "0.gif and 2 more; .gif is not read", "._0.png and 2 more; hidden files are not read",
        )
    )  # fmt: skip
    for path in ("pipe.png", "zero.jpg", "folder.png"):
        with pytest.raises(InputError, match=rf"cannot decode image {path}; .*\(it is a"):
            read_rgb(path)
    notes: list[str] = []
    synthesize(photos, tmp_path / "out", 1, size=64, on_note=notes.append)
    assert f"left out: {photos}/pipe.png is a named pipe" in notes


def test_a_mask_that_is_missing_is_looked_for(tmp_path: Path) -> None:
    write_png(tmp_path / "images" / "sub" / "b.png", NOISE[:, :, :3])
    write_png(tmp_path / "masks" / "sub" / "b_mask.png", NOISE[:, :, 0])
    images, masks = tmp_path / "images", tmp_path / "masks"
    with pytest.raises(InputError, match=r"first: sub/b; found b_mask.png, expected b.png\)"):
        FolderDataset(images, masks)
    os.mkfifo(masks / "sub" / "b.png")
    with pytest.raises(InputError, match=r"first: sub/b; b.png is a named pipe\)"):
        FolderDataset(images, masks)
    (masks / "sub" / "b.png").unlink()
    (masks / "sub" / "b.gif").write_bytes(b"GIF89a")
    with pytest.raises(InputError, match=r"first: sub/b; b.gif is not read\)"):
        FolderDataset(images, masks)


MODULES = sorted(
    path.relative_to(Path(ansm_fast.__file__).parent).with_suffix("").as_posix().replace("/", ".")
    for path in Path(ansm_fast.__file__).parent.rglob("*.py")
    if "import cv2" in path.read_text(encoding="utf-8")
)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_no_import_changes_the_threads_of_opencv() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        for module in MODULES:
            runpy.run_module(f"ansm_fast.{module}", run_name="again", alter_sys=True)
            assert cv2.getNumThreads() == 3, module
    finally:
        cv2.setNumThreads(before)
    assert "images.pixels" in MODULES
