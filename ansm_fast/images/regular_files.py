"""Regular files, and the names of what else a folder may hold.

A named pipe, once opened, waits for a writer that never comes; a device may never end.
"""

from __future__ import annotations

import os
import stat
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
    check_regular(path)
    # What was a file a moment ago may be a pipe by now: opened so, it doesn't block.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        _check(os.fstat(descriptor).st_mode)
        return file.read()
