"""JPEG, PNG, TIFF, WebP and BMP files to arrays, as they are stored.

An orientation, in EXIF or in a TIFF's tag, is never applied: so an image and a mask of its size
have one geometry whatever either file says, and whatever library wrote it.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage

from ansm_fast.data.files import NotAFile, read_regular
from ansm_fast.errors import InputError

_ORIENTATION = 274
_COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
# Where a file may carry an orientation; TIFF always may.
_EXIF_MARKS = {"JPEG": b"Exif\0\0", "PNG": b"eXIf", "WebP": b"EXIF"}


class Undecodable(Exception):
    """``str`` says why, as in "it is empty"."""


def file_format(data: bytes) -> str | None:
    """JPEG, PNG, TIFF, WebP or BMP by its first bytes, whatever the file's name; else None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return "BMP" if data.startswith(b"BM") else None


def read_content(path: str | Path, kind: str) -> bytes:
    """The bytes of a file, ``kind`` being "image" or "mask".

    Raises:
        InputError: it cannot be read, or is a pipe, socket, device or folder.
    """
    try:
        return read_regular(path)
    except NotAFile as error:
        reason = f"it is {error}"
    except OSError as error:
        reason = error.strerror or str(error)
    raise undecodable(path, kind, reason)


def undecodable(path: str | Path, kind: str, reason: str) -> InputError:
    """The error of one file that is no usable image."""
    return InputError(
        f"cannot decode {kind} {path}; remove it or replace it by an intact JPEG, PNG, TIFF, WebP "
        f"or BMP ({reason})"
    )


def orientation_of(data: bytes) -> int:
    """The orientation that a file names, 1 to 8; 1 if it names none."""
    form = file_format(data)
    if form is None or form == "BMP" or (form != "TIFF" and _EXIF_MARKS[form] not in data):
        return 1
    try:
        with PillowImage.open(io.BytesIO(data)) as image:
            if form == "PNG":
                image.load()  # its EXIF may stand behind the pixels
            value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged block names no orientation
        return 1
    return value if value in range(1, 9) else 1


def decode(data: bytes, colour: bool) -> NDArray[Any]:
    """Stored pixels.

    Args:
        colour: (H, W, 3) uint8 RGB, without alpha; else as stored, uint8 or uint16: (H, W), or
            (H, W, 2 to 4), grey or RGB with or without alpha.

    Raises:
        Undecodable: with the reason.
    """
    if not data:
        raise Undecodable("it is empty")
    form = file_format(data)
    if form is None:
        raise Undecodable("it is neither JPEG, PNG, TIFF, WebP nor BMP, whatever its name says")
    # The last scan of a whole JPEG ends; some decoders fill up what is missing with grey.
    if form == "JPEG" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise Undecodable("it is cut short")
    if form == "TIFF":
        pixels = _decode_tiff(data)
    else:
        deep = form == "PNG" and data[24:25] == b"\x10"
        pixels = _decode_other(data, _COLOR if colour and not deep else cv2.IMREAD_UNCHANGED)
    if not colour:
        return pixels
    if pixels.dtype == np.uint16:
        pixels = to_eight_bits(pixels)
    if pixels.ndim == 3 and pixels.shape[2] > 2:
        return pixels if pixels.shape[2] == 3 else np.ascontiguousarray(pixels[:, :, :3])
    return cv2.cvtColor(pixels if pixels.ndim == 2 else pixels[:, :, 0], cv2.COLOR_GRAY2RGB)


def to_eight_bits(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The nearest of 256 levels, white to white; OpenCV's own conversion rounds down."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _decode_other(data: bytes, flags: int) -> NDArray[Any]:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # more pixels than OpenCV takes, whether or not they are there
        pixels = None
    if pixels is None:
        raise Undecodable("it is damaged, of an unsupported kind, or above 2^30 pixels")
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _decode_tiff(data: bytes) -> NDArray[Any]:
    """As ``defend`` reads it, but not turned: decoders of TIFF turn pixels without being asked."""
    from ansm_fast.inference.decode import read_tiff
    from ansm_fast.inference.images import BadImage

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            tag = file.pages.first.tags.get(_ORIENTATION)
            if tag is not None and tag.value != 1:
                upright = (1).to_bytes(2, "little" if file.byteorder == "<" else "big")
                data = data[: tag.valueoffset] + upright + data[tag.valueoffset + 2 :]
        image = read_tiff(data, lambda width, height: None)
    except BadImage as error:
        raise Undecodable(f"it {error}") from error
    except Exception as error:  # a codec may raise anything on a damaged file
        raise Undecodable("it is damaged or of an unsupported kind") from error
    if image.alpha is not None:
        return np.dstack([image.pixels, image.alpha])
    # Pillow's own arrays cannot be written to.
    return np.array(image.pixels[:, :, 0] if image.grey else image.pixels)
