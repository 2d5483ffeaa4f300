"""PNG files with alpha, ICC profile and EXIF, written whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ansm_fast.data.atomic import temporary_beside
from ansm_fast.inference.images import Photograph, Pixels

# Length, type, 13 bytes and CRC of the IHDR chunk, which comes first, after the signature.
_AFTER_IHDR = 8 + 4 + 4 + 13 + 4
# Of Linux's renameat2, which Python doesn't wrap.
_HERE, _RENAME_EXCHANGE = -100, 2
# How file systems without hard links, as FAT, refuse one.
_NO_HARD_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


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
            Image.fromarray(both, "LA").save(buffer, "PNG", compress_level=1)
            return buffer.getvalue()
        # Neither library writes grey with alpha at 16 bits: the grey goes out as RGB.
        pixels = np.repeat(pixels, 3, axis=2)
    if image.grey and alpha is None:
        return _compress(pixels)
    if alpha is None:
        return _compress(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return _compress(np.dstack([pixels[:, :, ::-1], alpha]))


def encode_png(image: Photograph) -> bytes:
    """Lossless PNG at the depth of ``image.pixels``, with its alpha, ICC profile and EXIF."""
    encoded = _encode(image)
    extra = b""
    if image.icc:
        extra += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(image.icc))
    if image.exif:
        extra += _chunk(b"eXIf", image.exif)
    return encoded[:_AFTER_IHDR] + extra + encoded[_AFTER_IHDR:] if extra else encoded


class Occupied(Exception):
    """Another file lies where one was to be written; nothing was touched."""


def write_atomically(
    path: Path,
    data: bytes,
    *,
    may_replace: Callable[[Path], bool] | None = None,
    token: str | None = None,
) -> None:
    """Write under a temporary name beside ``path``, then rename; on failure leave nothing.

    Args:
        may_replace: asked if something lies at ``path``, whenever it came there; by default it
            is replaced, whatever it is.
        token: of the temporary name; see ``temporary_beside``.

    Raises:
        Occupied: ``may_replace`` said no. OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path, token)
    try:
        temporary.write_bytes(data)
        if not _take_free_name(temporary, path):
            _replace(temporary, path, may_replace)
    finally:
        temporary.unlink(missing_ok=True)


def _replace(temporary: Path, path: Path, may_replace: Callable[[Path], bool] | None) -> None:
    if may_replace is None:
        os.replace(temporary, path)
        return
    before = os.lstat(path)
    if not may_replace(path):
        raise Occupied(str(path))
    if not _exchange(temporary, path):
        os.replace(temporary, path)
        return
    found = os.lstat(temporary)
    if (found.st_ino, found.st_size, found.st_mtime_ns) != (
        before.st_ino,
        before.st_size,
        before.st_mtime_ns,
    ):  # changed since it was looked at
        _exchange(temporary, path)
        raise Occupied(str(path))


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step, so that neither file is lost; False where there is no such."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    names = os.fsencode(one), os.fsencode(other)
    return (
        renameat2 is not None and renameat2(_HERE, names[0], _HERE, names[1], _RENAME_EXCHANGE) == 0
    )


def _take_free_name(temporary: Path, path: Path) -> bool:
    """Give a file its name unless something has it: a rename would write over that."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        os.replace(temporary, path)
    return True
