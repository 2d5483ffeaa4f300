"""The content of an input as it was at one moment, and what tells later that it is still that."""

from __future__ import annotations

import hashlib
import time

from ansm_fast.errors import out_of_memory
from ansm_fast.images.photograph import BadImage
from ansm_fast.images.regular_files import Changing, NotAFile
from ansm_fast.inference.files import Source
from ansm_fast.json_lines import Record

# How often an input is read, or defended, that changes meanwhile.
ATTEMPTS = 3
_PAUSE = 0.05
# No pixel of 16 bits with alpha takes more bytes of a file than that, nor metadata so many.
_BYTES_A_PIXEL, _METADATA = 8, 64 << 20


def checksum(content: bytes) -> str:
    """SHA-256, as ``sha256sum`` prints it."""
    return hashlib.sha256(content).hexdigest()


def read_source(source: Source, max_pixels: int) -> tuple[bytes, Record]:
    """Read an input: its content, and its identity with ``input_sha256`` and ``input_read_at`` (in
    seconds of the clock), taken before it was read and the same after. One that changes meanwhile
    is read anew.

    Raises:
        BadImage: it cannot be read, is no file, changes each time, or has more bytes than an image
            of ``max_pixels`` needs (none of which are read).
    """
    most = _BYTES_A_PIXEL * max_pixels + _METADATA
    try:
        for _ in range(ATTEMPTS):
            begun = round(time.time(), 3)
            found = source.identity()
            if found["input_bytes"] > most:
                raise BadImage(
                    f"has {found['input_bytes']} bytes, more than the {most} that an image of "
                    f"--max-pixels {max_pixels} needs"
                )
            content = source.read()
            if len(content) == found["input_bytes"] and source.identity() == found:
                return content, found | {
                    "input_sha256": checksum(content),
                    "input_read_at": begun,
                }
            time.sleep(_PAUSE)
        raise Changing("it changes while it is read")
    except NotAFile as error:
        raise BadImage(f"cannot be read: it is {error}") from error
    except Changing as error:
        raise BadImage(f"cannot be read: {error}") from error
    except OSError as error:
        raise BadImage(f"cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise BadImage(f"does not fit in memory ({out_of_memory(error)})") from error


def is_unchanged(source: Source, found: Record) -> bool:
    """Whether an input is still what ``read_source`` found; one that is gone by now is not
    another."""
    try:
        now = source.identity()
    except OSError:
        return True
    return all(found.get(key) == value for key, value in now.items())
