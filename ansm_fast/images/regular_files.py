"""Regular files, and the names of what else a folder may hold.

A named pipe, once opened, waits for a writer that never comes; a device may never end.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class NotAFile(OSError):
    """What lies at a path is no regular file; ``str`` of it says what it is: "a named pipe"."""


class TooLarge(OSError):
    """A file has more bytes than were asked for; none of them were read."""


class Changing(OSError):
    """A file was written to or replaced whenever it was read."""


# How often a file is read that changes meanwhile, and seconds from one time to the next.
_ATTEMPTS, _PAUSE = 3, 0.05


def _check(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise NotAFile(_KINDS.get(stat.S_IFMT(mode), "no regular file"))


def check_regular(path: str | Path) -> None:
    """See that ``path`` is a regular file or a link to one, without opening it.

    Raises:
        NotAFile: it is something else. OSError: it is not there.
    """
    _check(os.stat(path).st_mode)


def read_regular(path: str | Path) -> bytes:
    """Read the content of a regular file.

    Raises:
        NotAFile: it is something else, which is never waited for. OSError: it cannot be read.
    """
    return _read(path, bounded=False)[0]


def _read(
    path: str | Path, most: int | None = None, bounded: bool = True
) -> tuple[bytes, os.stat_result, os.stat_result]:
    """The content, and the state of the open file before and after."""
    check_regular(path)
    # What was a file a moment ago may be a pipe by now: opened so, it doesn't block.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        before = os.fstat(descriptor)
        _check(before.st_mode)
        if most is not None and before.st_size > most:
            raise TooLarge(f"has {before.st_size} bytes, more than {most}")
        # One byte more than there were: one that grows without end is not followed.
        content = file.read(before.st_size + 1) if bounded else file.read()
        return content, before, os.fstat(descriptor)


def _content(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _place(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def read_unchanged(path: str | Path, most: int | None = None) -> tuple[bytes, os.stat_result]:
    """Read a regular file, of at most ``most`` bytes, that nobody writes to meanwhile: the content,
    and the state of the file that has it. One that changes or is replaced is read anew.

    Raises:
        TooLarge: it has more bytes. Changing: it changed each time. NotAFile: it is something
        else. OSError: it cannot be read, or is gone by the time it was read.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        content, before, after = _read(path, most)
        now = os.stat(path)
        whole = len(content) == before.st_size and _content(before) == _content(after)
        # Some network file systems number a file anew whenever they are asked.
        same = _place(before) == _place(now) or attempt == _ATTEMPTS
        if whole and same and _content(now) == _content(before):
            return content, before
        time.sleep(_PAUSE)
    raise Changing("it changes while it is read")
