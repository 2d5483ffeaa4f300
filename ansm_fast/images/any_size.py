"""Opening an image with Pillow whatever its size."""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Sequence

from PIL import Image, UnidentifiedImageError

_LIFTED = threading.Lock()


def open_any_size(data: bytes, formats: Sequence[str]) -> Image.Image:
    """``PIL.Image.open`` of a file's content, without its guard against huge images.

    That guard is one number for all threads of a process, and not this package's to change; who
    calls this compares the size with a limit of its own before pixels are decoded.

    Args:
        formats: names as Pillow has them, in capitals.

    Raises:
        UnidentifiedImageError: it is of none of the formats. Anything: it is damaged.
    """
    for name in formats:
        if name not in Image.OPEN:
            Image.init()
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(data[:16]) is not True:
            continue
        try:
            try:
                return factory(io.BytesIO(data), "")
            except Image.DecompressionBombError:
                # WebP, and TIFF with huge tiles, ask the guard themselves. Only there is it lifted,
                # while the header is read.
                with _LIFTED:
                    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
                    try:
                        return factory(io.BytesIO(data), "")
                    finally:
                        Image.MAX_IMAGE_PIXELS = before
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
    raise UnidentifiedImageError(f"cannot identify an image of {', '.join(formats)}")
