"""Chunks of a PNG: read, left out, made.

What describes an image without being pixels (colour, resolution, text) is copied chunk by chunk, so
that nothing has to be understood to be kept.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from ansm_fast.images.formats import PNG_SIGNATURE
from ansm_fast.images.photograph import BadImage

COLOUR = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"mDCv", b"cLLI", b"cLLi")
TEXT = (b"tEXt", b"zTXt", b"iTXt")
_KEPT = (*COLOUR, b"pHYs", *TEXT)
# Libraries refuse images for the size of what these unpack to; here nobody unpacks text, and a
# profile up to a bound.
_PACKED = (*TEXT, b"iCCP")
MAX_PROFILE = 64 << 20
_XMP = b"XML:com.adobe.xmp"


def chunk(kind: bytes, data: bytes) -> bytes:
    """Make a chunk: length, kind, data and checksum."""
    return b"".join(chunk_parts(kind, data))


def chunk_parts(kind: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    """A chunk whose data isn't copied."""
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind, data, struct.pack(">I", checksum)


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of every whole chunk, length and checksum included, to the last of
    the image; what a file has behind it belongs to nothing."""
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + length + 12
        if end > len(data):
            return
        yield kind, position, end
        if kind == b"IEND":
            return
        position = end


def content(data: bytes, start: int, end: int) -> bytes:
    """Of the chunk between ``start`` and ``end``."""
    return data[start + 8 : end - 4]


def _intact(data: bytes, start: int, end: int) -> bool:
    return zlib.crc32(data[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")


def kept_chunks(data: bytes) -> bytes:
    """The chunks of a PNG that go along with its pixels, as they are; damaged ones are not."""
    return b"".join(
        data[start:end]
        for kind, start, end in chunks(data)
        if kind in _KEPT and _intact(data, start, end)
    )


def without_packed(data: bytes) -> bytes:
    """The PNG without text and profile; the same object if it has none."""
    found = [(start, end) for kind, start, end in chunks(data) if kind in _PACKED]
    if not found:
        return data
    parts, last = [], 0
    for start, end in found:
        parts.append(data[last:start])
        last = end
    return b"".join([*parts, data[last:]])


def icc_profile(data: bytes) -> bytes | None:
    """The colour profile of a PNG; None without one, or where it is damaged.

    Raises:
        BadImage: it is larger than ``MAX_PROFILE``.
    """
    for kind, start, end in chunks(data):
        if kind != b"iCCP" or not _intact(data, start, end):
            continue
        packed = content(data, start, end).partition(b"\0")[2][1:]
        unpack = zlib.decompressobj()
        try:
            profile = unpack.decompress(packed, MAX_PROFILE)
        except zlib.error:
            return None
        if not unpack.eof and len(profile) >= MAX_PROFILE:
            raise BadImage(f"has a colour profile of more than {MAX_PROFILE >> 20} MiB; remove it")
        return profile if profile and unpack.eof else None
    return None


def exif_of(data: bytes) -> bytes | None:
    """The EXIF block of a PNG, wherever it stands."""
    for kind, start, end in chunks(data):
        if kind == b"eXIf":
            return content(data, start, end) or None
    return None


def frames(data: bytes) -> int:
    """How many frames a PNG says that it animates; 0 for a still image."""
    for kind, start, end in chunks(data):
        if kind == b"acTL" and end - start >= 16:
            return int.from_bytes(content(data, start, end)[:4], "big")
    return 0


def transparent_grey(data: bytes) -> int | None:
    """The grey level that a grey PNG calls transparent, at its depth."""
    for kind, start, end in chunks(data):
        if kind == b"tRNS" and end - start == 14:
            return int.from_bytes(content(data, start, end), "big")
    return None


@dataclass
class Described:
    """What chunks say, for formats that keep it elsewhere.

    Attributes:
        xmp: the packet; empty without one.
        resolution: pixels a metre across and down, None without one.
        others: names of what else there is: "text", "colour chunks (gAMA, cHRM)".
    """

    xmp: bytes = b""
    resolution: tuple[int, int] | None = None
    others: list[str] = field(default_factory=list)


def described(kept: bytes) -> Described:
    """What ``Photograph.chunks`` say. Of a PNG that says sRGB, gamma and primaries repeat that;
    without a word the others are taken for sRGB."""
    found, colours, text = Described(), [], False
    for kind, start, end in chunks(PNG_SIGNATURE + kept):
        value = content(PNG_SIGNATURE + kept, start, end)
        if kind == b"pHYs" and len(value) == 9 and value[8] == 1:
            across, down = struct.unpack_from(">II", value)
            found.resolution = (across, down) if across and down else None
        elif kind == b"iTXt" and value.startswith(_XMP + b"\0") and not found.xmp:
            found.xmp = _text(value[len(_XMP) + 1 :])
        elif kind in COLOUR:
            colours.append(kind.decode())
        else:
            text = text or kind in TEXT
    if "sRGB" in colours:
        colours = [kind for kind in colours if kind not in ("sRGB", "gAMA", "cHRM")]
    if colours:
        found.others.append(f"colour chunks ({', '.join(dict.fromkeys(colours))})")
    if text:
        found.others.append("text")
    return found


def _text(value: bytes) -> bytes:
    """Of an iTXt, from its flag of compression on; nothing where it unpacks to too much."""
    text = value[2:].split(b"\0", 2)[-1]
    if value[:1] != b"\1":
        return text
    unpack = zlib.decompressobj()
    try:
        unpacked = unpack.decompress(text, MAX_PROFILE)
    except zlib.error:
        return b""
    return unpacked if unpack.eof else b""


def resolution(dpi: tuple[float, float]) -> bytes:
    """A chunk that tells pixels an inch, across and down; nothing for what is no resolution."""
    try:
        metres = [round(float(value) / 0.0254) for value in dpi]
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return b""
    if not all(0 < value < 2**31 for value in metres):
        return b""
    return chunk(b"pHYs", struct.pack(">IIB", *metres, 1))


def xmp(packet: bytes) -> bytes:
    """A chunk with an XMP packet."""
    return chunk(b"iTXt", _XMP + b"\0\0\0\0\0" + packet)


def comment(text: bytes) -> bytes:
    """A chunk with a comment in Latin-1; what follows a NUL is left out."""
    return chunk(b"tEXt", b"Comment\0" + text.partition(b"\0")[0])
