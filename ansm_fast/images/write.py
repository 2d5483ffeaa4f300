"""PNG files: with alpha, ICC profile and EXIF, or of plain pixels."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PillowImage

from ansm_fast.images.atomic import write_bytes
from ansm_fast.images.photograph import Image, Photograph, Pixels
from ansm_fast.images.png_chunks import chunk

# Length, type, 13 bytes and CRC of the IHDR chunk, which comes first, after the signature.
_AFTER_IHDR = 8 + 4 + 4 + 13 + 4


def _compress(pixels: Pixels) -> bytes:
    done, encoded = cv2.imencode(".png", pixels)
    if not done:
        raise OSError(f"PNG encoder failed on an image of shape {pixels.shape}")
    return encoded.tobytes()


def _encode(image: Photograph) -> bytes:
    pixels, alpha = image.pixels, image.alpha
    if image.grey and alpha is not None:
        if image.depth == 8:
            buffer = io.BytesIO()
            both = np.dstack([pixels[:, :, 0], alpha])
            PillowImage.fromarray(both, "LA").save(buffer, "PNG", compress_level=1)
            return buffer.getvalue()
        # Neither library writes grey with alpha at 16 bits: the grey goes out as RGB.
        pixels = np.repeat(pixels, 3, axis=2)
    if image.grey and alpha is None:
        return _compress(pixels)
    if alpha is None:
        return _compress(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return _compress(np.dstack([pixels[:, :, ::-1], alpha]))


def encode_png(image: Photograph) -> bytes:
    """Encode a PNG at the depth of ``image.pixels``, with its alpha, ICC profile, EXIF and
    chunks."""
    encoded = _encode(image)
    extra = image.chunks
    if image.icc:
        extra += chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(image.icc))
    if image.exif:
        extra += chunk(b"eXIf", image.exif)
    return encoded[:_AFTER_IHDR] + extra + encoded[_AFTER_IHDR:] if extra else encoded


def write_png(path: str | Path, pixels: Image) -> None:
    """Write RGB (H, W, 3) or grey (H, W) as PNG, making the folder; see ``write_bytes``."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, _compress(pixels[..., ::-1] if pixels.ndim == 3 else pixels))
