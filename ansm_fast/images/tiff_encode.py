"""Photographs to TIFF of 8 and 16 bits, compressed without loss, with all that goes along."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from ansm_fast.images import png_chunks
from ansm_fast.images.formats import ORIENTATION
from ansm_fast.images.photograph import Photograph

# Tags of EXIF's first directory that are a TIFF's own, and of text: all but the orientation.
_TEXT = (270, 271, 272, 306, 315, 33432)
_XMP, _EXIF, _GPS = 700, 34665, 34853
_LONG = 4
_FAST, _SMALL = 1, 12  # levels of libdeflate
_METRES_AN_INCH = 0.0254


def encode(image: Photograph, small: bool = False) -> tuple[bytes, str]:
    """Encode, and say what could not be kept."""
    samples = image.pixels
    if image.alpha is not None:
        samples = np.dstack([samples, image.alpha])
    if samples.shape[2] == 1:
        samples = samples[:, :, 0]
    described, exif = png_chunks.described(image.chunks), _Exif(image.exif)
    extra = exif.tags()
    if described.xmp:
        extra.append((_XMP, "B", len(described.xmp), described.xmp, True))
    resolution = described.resolution
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        samples,
        byteorder="<",
        photometric="minisblack" if image.grey else "rgb",
        planarconfig=None if samples.ndim == 2 else "contig",
        extrasamples=None if image.alpha is None else ("unassalpha",),
        compression="adobe_deflate",
        compressionargs={"level": _SMALL if small else _FAST},
        predictor=True,
        # Strips of about a quarter of a megabyte, as readers like them.
        rowsperstrip=max(1, (1 << 18) // (samples.nbytes // samples.shape[0])),
        iccprofile=image.icc,
        resolution=None
        if resolution is None
        else (resolution[0] * _METRES_AN_INCH, resolution[1] * _METRES_AN_INCH),
        resolutionunit="inch" if resolution else None,
        software=exif.software,
        metadata=None,
        extratags=extra,
    )
    exif.append_to(buffer)
    notes = [f"TIFF cannot keep: {', '.join(described.others)}"] if described.others else []
    return buffer.getvalue(), "; ".join(notes + exif.notes)


def _entries(file: io.BytesIO, start: int) -> list[bytes]:
    """The entries of the directory at ``start``, 12 bytes each."""
    file.seek(start)
    count = int.from_bytes(file.read(2), "little")
    return [file.read(12) for _ in range(count)]


def _even_end(file: io.BytesIO) -> int:
    end = file.seek(0, io.SEEK_END)
    file.write(bytes(end % 2))
    return end + end % 2


class _Exif:
    """An EXIF block in parts: tags of the TIFF itself, and directories that it points to."""

    def __init__(self, block: bytes | None) -> None:
        self.notes: list[str] = []
        self._whole: Image.Exif = Image.Exif()
        self._directories: dict[int, dict[int, Any]] = {}
        if block is None:
            return
        try:
            self._whole.load(b"Exif\0\0" + block)
            found = {tag: dict(self._whole.get_ifd(tag)) for tag in (_EXIF, _GPS)}
            for tag, values in found.items():
                if values:
                    self._bytes(values, 8)  # or it cannot be written
                    self._directories[tag] = values
        except Exception:  # a damaged block may raise anything
            self.notes.append("damaged EXIF left out")

    @property
    def software(self) -> str | None:
        value = self._whole.get(305)
        return value if isinstance(value, str) and value.isascii() else None

    def tags(self) -> list[tuple[int, Any, int, Any, bool]]:
        """As tifffile's ``extratags``."""
        found: list[tuple[int, Any, int, Any, bool]] = []
        for tag in _TEXT:
            value = self._whole.get(tag)
            if isinstance(value, str) and value:
                content = value.encode("utf-8", errors="surrogateescape")
                found.append((tag, "s", 0, content, True))
        turned = self._whole.get(ORIENTATION)
        if isinstance(turned, int) and 1 < turned <= 8:
            found.append((ORIENTATION, "H", 1, turned, True))
        return found

    def append_to(self, file: io.BytesIO) -> None:
        """Add the directories of EXIF and GPS, which tifffile doesn't write: behind the image,
        and behind them its own directory anew with pointers to them."""
        if not self._directories:
            return
        head = bytes(file.getbuffer()[:8])
        if head[:4] != b"II*\0":
            self.notes.append("EXIF left out of a TIFF of more than 4 GB")
            return
        entries = _entries(file, int.from_bytes(head[4:], "little"))
        for tag, values in self._directories.items():
            start = _even_end(file)
            file.write(self._bytes(values, start))
            entries.append(struct.pack("<HHII", tag, _LONG, 1, start))
        entries.sort(key=lambda entry: int.from_bytes(entry[:2], "little"))
        start = _even_end(file)
        file.write(struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4))
        file.seek(4)
        file.write(struct.pack("<I", start))

    @staticmethod
    def _bytes(values: dict[int, Any], start: int) -> bytes:
        directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0")
        for tag, value in values.items():
            directory[tag] = value
        return directory.tobytes(start)
