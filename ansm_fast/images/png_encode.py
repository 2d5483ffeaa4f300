"""Pixels to PNG: filters by NumPy, compressed by libdeflate (imagecodecs).

OpenCV and Pillow compress by zlib, which takes twice the time for the same size, and neither
writes grey with alpha at 16 bits. docs/defend.md has the figures.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np

from ansm_fast.images.formats import PNG_SIGNATURE
from ansm_fast.images.photograph import Pixels
from ansm_fast.images.png_chunks import chunk, chunk_parts

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by samples a pixel
_SUB, _UP, _AVERAGE, _PAETH = 1, 2, 3, 4
_FAST, _SMALL = 1, 12  # levels of libdeflate
# Bytes of pixels from which they are compressed by blocks of so many: to filter and to compress a
# large image at once takes twice its memory. It also keeps a chunk's length within its 31 bits.
_LARGE, _STREAMED = 1 << 27, 1 << 24
# Rows are filtered by blocks, so that the filters of a large image take little memory.
_BLOCK = 1 << 22


def encode(samples: Pixels, small: bool = False, extra: bytes = b"") -> bytes:
    """A PNG of (H, W, 1..4) samples of uint8 or uint16: grey or RGB, with alpha or without.

    Args:
        small: about 0.93 of the size, in 30 times the time.
        extra: whole chunks that come before the pixels.
    """
    height, width, count = samples.shape
    header = struct.pack(
        ">IIBBBBB", width, height, 8 * samples.dtype.itemsize, _COLOUR_TYPES[count], 0, 0, 0
    )
    packed = _streamed(samples, small) if samples.nbytes > _LARGE else _whole(samples, small)
    file = io.BytesIO()  # it grows in place, where a join would hold everything twice
    file.writelines([PNG_SIGNATURE, chunk(b"IHDR", header), extra])
    for part in packed:
        file.writelines(chunk_parts(b"IDAT", part))
    file.write(chunk(b"IEND", b""))
    return file.getvalue()


def _whole(samples: Pixels, small: bool) -> list[bytes]:
    filtered = _filtered(samples, slice(0, len(samples)), small)
    level = _SMALL if small else _FAST
    return [bytes(imagecodecs.deflate_encode(filtered, level=level))]  # type: ignore[arg-type]


def _streamed(samples: Pixels, small: bool) -> Iterator[bytes]:
    """The same pixels block by block, by zlib: libdeflate wants them all at once."""
    packer = zlib.compressobj(level=9 if small else 1)
    rows = max(1, _STREAMED // (samples.nbytes // len(samples)))
    for start in range(0, len(samples), rows):
        if part := packer.compress(_filtered(samples, slice(start, start + rows), small).data):
            yield part
    yield packer.flush()


def _filtered(samples: Pixels, block: slice, small: bool) -> Pixels:
    """The rows of a block as they are compressed: a filter's number each, and what it leaves."""
    step = samples.shape[2] * samples.dtype.itemsize
    if not small:
        return _left(_lines(samples[block]), step)
    first = max(0, block.start - 1)  # filters look at the row above
    return _best(_lines(samples[first : block.stop]), step, block.start - first)


def _lines(samples: Pixels) -> Pixels:
    wide = samples.dtype.newbyteorder(">")
    return np.ascontiguousarray(samples, wide).view(np.uint8).reshape(len(samples), -1)


def _left(lines: Pixels, step: int) -> Pixels:
    """Each sample less the one to its left: the filter that costs least."""
    filtered = np.empty((lines.shape[0], 1 + lines.shape[1]), np.uint8)
    filtered[:, 0] = _SUB
    filtered[:, 1 : 1 + step] = lines[:, :step]
    np.subtract(lines[:, step:], lines[:, :-step], out=filtered[:, 1 + step :])
    return filtered


def _best(lines: Pixels, step: int, begin: int) -> Pixels:
    """Each row from ``begin`` on by the filter that leaves the least sum of differences, as libpng
    chooses."""
    filtered = np.empty((lines.shape[0], 1 + lines.shape[1]), np.uint8)
    rows = max(1, _BLOCK // lines.shape[1])
    for start in range(0, lines.shape[0], rows):
        block = slice(start, start + rows)
        above = np.zeros_like(lines[block])
        first = 1 if start == 0 else 0
        above[first:] = lines[start - 1 + first : start + len(above) - 1]
        least = np.full(len(above), np.iinfo(np.int64).max)
        for kind, rest in _filters(lines[block], above, step):
            cost = np.abs(rest.view(np.int8).astype(np.int16)).sum(1, dtype=np.int64)
            better = cost < least
            least = np.minimum(cost, least)
            filtered[block][better, 0] = kind
            filtered[block][better, 1:] = rest[better]
    return filtered[begin:]


def _filters(lines: Pixels, above: Pixels, step: int) -> Iterator[tuple[int, Pixels]]:
    left, corner = np.zeros_like(lines), np.zeros_like(lines)
    left[:, step:], corner[:, step:] = lines[:, :-step], above[:, :-step]
    yield 0, lines
    yield _SUB, lines - left
    yield _UP, lines - above
    yield _AVERAGE, lines - ((left.astype(np.uint16) + above) >> 1).astype(np.uint8)
    a, b, c = left.astype(np.int16), above.astype(np.int16), corner.astype(np.int16)
    to_left, to_above, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    nearest = np.where(to_above <= to_corner, above, corner)
    nearest = np.where((to_left <= to_above) & (to_left <= to_corner), left, nearest)
    yield _PAETH, lines - nearest
