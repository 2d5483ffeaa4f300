"""Where outputs go: a store, and below it a place for each file.

Plan, manifest and writer know stores and places alone. The folder of this machine is one; what
speaks another protocol is in ``url_store``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ansm_fast.errors import InputError
from ansm_fast.images.atomic import make_folder, move_file, temporary_name, write_bytes

MANIFEST = "manifest.jsonl"


class Place(Protocol):
    """A file that is there or not; ``str`` of it is what a user calls it.

    All methods but ``write`` answer rather than raise where nothing can be found out.
    """

    @property
    def name(self) -> str:
        """The last part of its name."""

    @property
    def address(self) -> str:
        """What tells it from every other file, comparable with the keys of inputs."""

    def lies_there(self) -> bool:
        """Whether anything, of any kind, has this name."""

    def may_be_read(self) -> bool:
        """Whether it is a file, and no link, nor in a folder that a link takes out of the store;
        its content isn't looked at."""

    def size(self) -> int | None:
        """Bytes of the file; None if there is none."""

    def checksum(self) -> str | None:
        """SHA-256 of the file, and of no link; None if there is none."""

    def write(self, content: bytes, may_replace: Callable[[], bool], token: str) -> None:
        """Write it whole or not at all.

        Args:
            may_replace: asked if something lies there, whenever it came.
            token: names the run, whose leftovers the next one finds by it.

        Raises:
            Occupied: ``may_replace`` said no; nothing was touched.
            OSError: it cannot be written.
        """

    def put(self, file: Path, may_replace: Callable[[], bool]) -> None:
        """As ``write``, of a whole file in the store's ``state``, which is moved or copied."""

    def remove(self) -> None:
        """Remove the file, if it is there."""

    def remove_leftover(self, token: str) -> None:
        """Remove what a killed run of this token left of an unfinished ``write``."""


class Store(Protocol):
    """A tree of files; ``str`` of it is what the user gave.

    Attributes:
        state: local folder of the manifest and the journals.
    """

    @property
    def state(self) -> Path: ...

    @property
    def root(self) -> str:
        """Its address, however the user wrote it."""

    @property
    def real_root(self) -> str:
        """``root``, links followed."""

    def place(self, name: str) -> Place:
        """The file of a relative POSIX name."""

    def is_taken(self, name: str) -> bool:
        """Whether anything has this name, in capitals or not. It may be answered from a listing
        that was made once: ``Place.write`` asks anew."""

    def begin(self) -> None:
        """Get ``state`` ready for a run; InputError where that cannot be, or another one runs."""

    def end(self, *, failed: bool = False) -> None:
        """Bring ``state`` to where the outputs are, unless the run could not begin."""

    def prepare(self, option: str) -> None:
        """Make it and see that it can be written to; InputError, which names ``option``, if not."""


def checksum_of(path: Path) -> str:
    """SHA-256 of a file, as ``sha256sum`` prints it, in constant memory."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()


class LocalPlace:
    """A file of this machine. The address follows the links of its folder, not its own.

    Args:
        inside: whether it lies in the store for sure, whatever links are there.
        sync: wait at each file until the disk has it.
    """

    __slots__ = ("address", "inside", "path", "sync")

    def __init__(self, path: Path, address: str, inside: bool = True, sync: bool = False) -> None:
        self.path, self.address, self.inside, self.sync = path, address, inside, sync

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    def lies_there(self) -> bool:
        return os.path.lexists(self.path)

    def may_be_read(self) -> bool:
        try:
            return self.inside and stat.S_ISREG(os.lstat(self.path).st_mode)
        except OSError:
            return False

    def size(self) -> int | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def checksum(self) -> str | None:
        try:
            return checksum_of(self.path) if self.may_be_read() else None
        except OSError:
            return None

    def write(self, content: bytes, may_replace: Callable[[], bool], token: str) -> None:
        make_folder(self.path.parent, sync=self.sync)
        write_bytes(
            self.path,
            content,
            may_replace=lambda path: may_replace(),
            token=token,
            sync=self.sync,
        )

    def put(self, file: Path, may_replace: Callable[[], bool]) -> None:
        make_folder(self.path.parent, sync=self.sync)
        move_file(file, self.path, may_replace=lambda path: may_replace(), sync=self.sync)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def remove_leftover(self, token: str) -> None:
        if self.inside:
            with contextlib.suppress(OSError):  # a folder of its path is a file by now
                temporary_name(self.path, token).unlink(missing_ok=True)


class LocalStore:
    """A folder of this machine; ``sync``: wait at each file until the disk has it."""

    def __init__(self, folder: Path, sync: bool = False) -> None:
        self.state, self.sync = folder, sync
        self._inside = os.path.join(os.path.realpath(folder), "")
        self._real: dict[Path, str] = {}
        self._listed: dict[str, set[str]] = {}

    def __str__(self) -> str:
        return str(self.state)

    @property
    def root(self) -> str:
        return os.path.abspath(self.state)

    @property
    def real_root(self) -> str:
        return os.path.realpath(self.state)

    def place(self, name: str) -> LocalPlace:
        path = self.state / name
        if path.parent not in self._real:
            self._real[path.parent] = os.path.realpath(path.parent)
        real = self._real[path.parent]
        inside = os.path.join(real, "").startswith(self._inside)
        return LocalPlace(path, os.path.join(real, path.name), inside, self.sync)

    def is_taken(self, name: str) -> bool:
        place = self.place(name)
        folder = os.path.dirname(place.address)
        if folder not in self._listed:
            try:
                self._listed[folder] = {name.casefold() for name in os.listdir(folder)}
            except OSError:  # not there yet
                self._listed[folder] = set()
        return place.name.casefold() in self._listed[folder] or place.lies_there()

    def begin(self) -> None:
        """The manifest itself, which lies here, is what a run holds."""

    def end(self, *, failed: bool = False) -> None:
        """Nothing is elsewhere."""

    def prepare(self, option: str) -> None:
        prepare_folder(self.state, option)


def prepare_folder(folder: Path, option: str) -> None:
    """Make ``folder`` and see that files can be made in it; InputError if not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"cannot write to {folder}: {error.strerror or error}; "
            f"give a writable folder to {option}"
        ) from error


def as_store(folder: Path | Store, sync: bool = False) -> Store:
    """A folder as a store, with ``sync`` as there; a store as it is."""
    return LocalStore(folder, sync) if isinstance(folder, Path) else folder
