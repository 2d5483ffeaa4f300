"""Lossless WebP of 8 bits: Pillow writes it, with ICC profile, EXIF and XMP."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as PillowImage

from ansm_fast.images import png_chunks
from ansm_fast.images.photograph import Photograph

MOST_SIDE = 16383
# Effort (0 to 100) and method (0 to 6) of libwebp.
_FAST, _SMALL = (0, 0), (75, 4)


def why_not(image: Photograph) -> str:
    """Why WebP cannot hold an image; empty if it can."""
    if image.depth != 8:
        return f"{image.depth} bits a sample"
    if max(image.width, image.height) > MOST_SIDE:
        return f"a side of more than {MOST_SIDE} pixels"
    return ""


def encode(image: Photograph, small: bool = False) -> tuple[bytes, str]:
    """Encode, and say what could not be kept; grey becomes RGB of three equal channels."""
    pixels = np.repeat(image.pixels, 3, axis=2) if image.grey else image.pixels
    if image.alpha is not None:
        pixels = np.dstack([pixels, image.alpha])
    effort, method = _SMALL if small else _FAST
    described = png_chunks.described(image.chunks)
    options: dict[str, bytes] = {}
    if image.icc:
        options["icc_profile"] = image.icc
    if image.exif:
        options["exif"] = b"Exif\0\0" + image.exif
    if described.xmp:
        options["xmp"] = described.xmp
    buffer = io.BytesIO()
    PillowImage.fromarray(np.ascontiguousarray(pixels)).save(
        buffer, "WEBP", lossless=True, exact=True, quality=effort, method=method, **options
    )
    lost = described.others + (["resolution"] if described.resolution else [])
    return buffer.getvalue(), f"WebP cannot keep: {', '.join(lost)}" if lost else ""
