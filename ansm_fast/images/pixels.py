"""JPEG, PNG, TIFF, WebP and BMP files to arrays, as they are stored: pixels and nothing else.

OpenCV decodes what has 8 bits, to the same bits as Pillow in half to nearly all of its time.

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

from ansm_fast.errors import InputError
from ansm_fast.images.any_size import open_any_size
from ansm_fast.images.formats import ORIENTATION, file_format, is_deep_png
from ansm_fast.images.photograph import BadImage, Image
from ansm_fast.images.read import read_tiff
from ansm_fast.images.regular_files import NotAFile, check_regular, read_regular

_COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
# Where a file may carry an orientation; TIFF always may.
_EXIF_MARKS = {"JPEG": b"Exif\0\0", "PNG": b"eXIf", "WebP": b"EXIF"}


def read_content(path: str | Path, kind: str) -> bytes:
    """Read the bytes of a file, ``kind`` being "image" or "mask".

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
    """Return the error of one file that is no usable image."""
    return InputError(
        f"cannot decode {kind} {path}; remove it or replace it by an intact JPEG, PNG, TIFF, WebP "
        f"or BMP ({reason})"
    )


def orientation_of(data: bytes) -> int:
    """Read the orientation that a file names, 1 to 8; 1 if it names none."""
    form = file_format(data)
    if form is None or form == "BMP" or (form != "TIFF" and _EXIF_MARKS[form] not in data):
        return 1
    try:
        with open_any_size(data, [form.upper()]) as image:
            if form == "PNG":
                image.load()  # its EXIF may stand behind the pixels
            value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged block names no orientation
        return 1
    return value if value in range(1, 9) else 1


def size_of(path: str | Path) -> tuple[int, int]:
    """Read the height and width of an image as stored, where its format allows without its pixels.

    Raises:
        InputError: it cannot be read or decoded.
    """
    try:
        check_regular(path)
        with PillowImage.open(path) as image:
            if image.format != "TIFF":  # of one that is turned Pillow gives the turned size
                return image.height, image.width
    except Exception:  # decoding says what is wrong
        pass
    height, width = read_rgb(path).shape[:2]
    return height, width


def decode(data: bytes, colour: bool) -> NDArray[Any]:
    """Decode stored pixels.

    Args:
        colour: (H, W, 3) uint8 RGB, without alpha; else as stored, uint8 or uint16: (H, W), or
            (H, W, 2 to 4), grey or RGB with or without alpha.

    Raises:
        BadImage: with the reason.
    """
    if not data:
        raise BadImage("is empty")
    form = file_format(data)
    if form is None:
        raise BadImage("is neither JPEG, PNG, TIFF, WebP nor BMP, whatever its name says")
    # The last scan of a whole JPEG ends; some decoders fill up what is missing with grey.
    if form == "JPEG" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise BadImage("is cut short")
    if form == "TIFF":
        pixels = _decode_tiff(data)
    else:
        whole = not colour or is_deep_png(data)
        pixels = _decode_other(data, cv2.IMREAD_UNCHANGED if whole else _COLOR)
    if not colour:
        return pixels
    if pixels.dtype == np.uint16:
        pixels = to_eight_bits(pixels)
    if pixels.ndim == 3 and pixels.shape[2] > 2:
        return pixels if pixels.shape[2] == 3 else np.ascontiguousarray(pixels[:, :, :3])
    return cv2.cvtColor(pixels if pixels.ndim == 2 else pixels[:, :, 0], cv2.COLOR_GRAY2RGB)


def to_eight_bits(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Round to the nearest of 256 levels, white to white; OpenCV's own conversion rounds down."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _decode_other(data: bytes, flags: int) -> NDArray[Any]:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # more pixels than OpenCV takes, whether or not they are there
        pixels = None
    if pixels is None:
        raise BadImage("is damaged, of an unsupported kind, or above 2^30 pixels")
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _decode_tiff(data: bytes) -> NDArray[Any]:
    """As ``defend`` reads it, but not turned: decoders of TIFF turn pixels without being asked."""
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            tag = file.pages.first.tags.get(ORIENTATION)
            if tag is not None and tag.value != 1:
                upright = (1).to_bytes(2, "little" if file.byteorder == "<" else "big")
                data = data[: tag.valueoffset] + upright + data[tag.valueoffset + 2 :]
        image = read_tiff(data, lambda width, height: None)
    except BadImage:
        raise
    except Exception as error:  # a codec may raise anything on a damaged file
        raise BadImage("is damaged or of an unsupported kind") from error
    if image.alpha is not None:
        return np.dstack([image.pixels, image.alpha])
    # Pillow's own arrays cannot be written to.
    return np.array(image.pixels[:, :, 0] if image.grey else image.pixels)


def decode_rgb(data: bytes, path: str | Path) -> Image:
    """Decode the content of the image at ``path``; see ``read_rgb``."""
    try:
        return decode(data, colour=True)
    except BadImage as error:
        raise undecodable(path, "image", f"it {error}") from error


def read_rgb(path: str | Path) -> Image:
    """Decode one image to (H, W, 3) uint8 RGB, as stored: no orientation is applied.

    Alpha is dropped, the first frame or page taken, 16 bits are rounded to 8.

    Raises:
        InputError: it cannot be decoded, or has samples that aren't integers of 8 or 16 bits.
    """
    return decode_rgb(read_content(path, "image"), path)
