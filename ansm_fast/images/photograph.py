"""A decoded image file: pixels with everything that must survive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
Image = NDArray[np.uint8]  # (H, W, 3) RGB, or a batch of such


class BadImage(Exception):
    """A file that is no usable image; the message says why, as in "is empty"."""


@dataclass
class Photograph:
    """One decoded image, as stored in its file: not turned upright, except from TIFF.

    Attributes:
        pixels: (H, W, 3) RGB or (H, W, 1) grey, uint8 or uint16, contiguous.
        alpha: (H, W) of the same dtype, or None.
        icc: ICC profile, or None.
        exif: TIFF-structured EXIF block without the ``Exif\\0\\0`` prefix, or None. It holds the
            orientation, so that viewers turn the output as they turn the input.
        note: what could not be kept, for the manifest; empty if all was.
        chunks: what else goes along (gamma and primaries, resolution, text, XMP), as whole chunks
            of a PNG.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    note: str = ""
    chunks: bytes = b""

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def grey(self) -> bool:
        return self.pixels.shape[2] == 1

    @property
    def depth(self) -> int:
        """Bits per sample: 8 or 16."""
        return 8 * int(self.pixels.dtype.itemsize)
