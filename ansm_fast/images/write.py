"""Photographs to files: lossless, with alpha, ICC profile, EXIF and what else goes along."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ansm_fast.images import png_encode, tiff_encode, webp
from ansm_fast.images.atomic import write_bytes
from ansm_fast.images.formats import SUFFIXES
from ansm_fast.images.photograph import Image, Photograph
from ansm_fast.images.png_chunks import chunk


@dataclass(frozen=True)
class Encoded:
    """A file's content, the suffix it must have, and what it doesn't keep of the photograph."""

    content: bytes
    suffix: str
    note: str = ""


def encode(image: Photograph, kind: str = "png", effort: str = "fast") -> Encoded:
    """Encode as a format of ``SUFFIXES``. What WebP cannot hold, as 16 bits, becomes a PNG, and
    the note says so."""
    small = effort == "small"
    if kind == "webp" and not (reason := webp.why_not(image)):
        content, note = webp.encode(image, small)
        return Encoded(content, SUFFIXES[kind], note)
    if kind == "tiff":
        content, note = tiff_encode.encode(image, small)
        return Encoded(content, SUFFIXES[kind], note)
    note = f"PNG, since WebP cannot hold {reason}" if kind == "webp" else ""
    return Encoded(encode_png(image, small), SUFFIXES["png"], note)


def encode_png(image: Photograph, small: bool = False) -> bytes:
    """Encode a PNG at the depth of ``image.pixels``, with its alpha, ICC profile, EXIF and
    chunks."""
    extra = image.chunks
    if image.icc:
        extra += chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(image.icc))
    if image.exif:
        extra += chunk(b"eXIf", image.exif)
    pixels = image.pixels
    if image.alpha is not None:
        pixels = np.dstack([pixels, image.alpha])
    return png_encode.encode(pixels, small, extra)


def write_png(path: str | Path, pixels: Image) -> None:
    """Write RGB (H, W, 3) or grey (H, W) as PNG, making the folder; see ``write_bytes``."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = pixels if pixels.ndim == 3 else pixels[:, :, None]
    write_bytes(path, png_encode.encode(samples))
