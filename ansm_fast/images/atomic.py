"""Files that are there whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

from ansm_fast.errors import InputError

# Of Linux's renameat2, which Python doesn't wrap.
_HERE, _RENAME_EXCHANGE = -100, 2
# How file systems without hard links, as FAT, refuse one.
_NO_HARD_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}


def temporary_name(path: Path, token: str) -> Path:
    """Return ``.NAME.TOKEN.tmp`` beside ``path``; a long NAME becomes its digest, as names have
    limits."""
    name = path.name
    if len(os.fsencode(name)) > 200:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return path.with_name(f".{name}.{token}.tmp")


def temporary_beside(path: Path, token: str | None = None) -> Path:
    """Make a new, empty file of a ``temporary_name``: never one that was there before.

    Args:
        token: random by default; a given one names the run whose leftovers these are.

    Raises:
        OSError: the folder is missing, cannot be written to, or is full.
    """
    while True:
        temporary = temporary_name(path, token or secrets.token_hex(4))
        try:
            # As any new file, the user's umask decides who may read it; tempfile's are private.
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            if token is not None:
                raise
        else:
            return temporary


def check_unused(folder: Path, names: Iterable[str]) -> None:
    """See that a folder has none of the files and none but empty folders of ``names``.

    Raises:
        InputError: it has one, which would be written over or taken for a part of the result.
    """
    for name in names:
        path = folder / name
        if path.is_dir() and any(path.iterdir()):
            raise InputError(f"{folder} holds other {name}; give another output folder")
        if os.path.lexists(path) and not path.is_dir():
            raise InputError(f"{folder} holds another {name}; give another output folder")


class Occupied(Exception):
    """Another file lies where one was to be written; nothing was touched."""


def write_bytes(
    path: str | Path,
    content: bytes,
    *,
    may_replace: Callable[[Path], bool] | None = None,
    token: str | None = None,
    sync: bool = False,
) -> None:
    """Write a file; its folder must exist. A failure leaves neither the file nor a part of it.

    Args:
        may_replace: asked if something lies at ``path``, whenever it came there; by default it
            is replaced, whatever it is.
        token: of the temporary name; see ``temporary_beside``.
        sync: wait until the disk has it: the content before the name, and both in the end.

    Raises:
        Occupied: ``may_replace`` said no.
        OSError: the folder is missing, cannot be written to, or is full.
    """
    path = Path(path)
    try:
        temporary = temporary_beside(path, token)
        try:
            temporary.write_bytes(content)
            move_file(temporary, path, may_replace=may_replace, sync=sync)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)  # not the temporary one; a full disk tells none
        raise


def move_file(
    temporary: Path,
    path: Path,
    *,
    may_replace: Callable[[Path], bool] | None = None,
    sync: bool = False,
) -> None:
    """Give a file of the same file system its name; as ``write_bytes``. Where it was linked or
    changed places with another, something lies at ``temporary`` still, which the caller removes."""
    if sync:
        _sync(temporary)
    if may_replace is None:
        os.replace(temporary, path)
    elif not _take_free_name(temporary, path):
        _replace(temporary, path, may_replace)
    if sync:
        _sync(path.parent)


def make_folder(folder: Path, *, sync: bool = False) -> None:
    """Make a folder and those above it that are not there; ``sync`` as in ``write_bytes``."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()] if sync else []
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _sync(made.parent)


def _sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder, where the system can do that."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # no folder can be opened on Windows
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, names of files in it byte by byte; see ``write_bytes``."""
    write_bytes(path, text.encode("utf-8", errors="surrogateescape"))


def _replace(temporary: Path, path: Path, may_replace: Callable[[Path], bool]) -> None:
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
