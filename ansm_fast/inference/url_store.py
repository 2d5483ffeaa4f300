"""Outputs at an address of fsspec, as ``s3://bucket/defended``.

What holds there: an object is there whole or not at all; nothing is written over but what the
manifest claims by its checksum, or what is byte for byte the same. The manifest is kept on this
machine while a run lasts, put beside the outputs from time to time and at the end, and taken from
there by the next run, wherever that is.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ansm_fast.errors import InputError
from ansm_fast.images.atomic import Occupied, write_bytes
from ansm_fast.inference.stores import MANIFEST, checksum_of, prepare_folder
from ansm_fast.inference.urls import as_os_error, open_url, version

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

BEGINNING = b'{"input": '
# Where a file appears when it is whole; elsewhere it is written under another name first.
_WHOLE = frozenset(
    {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "r2", "memory"}
)
_READ_ONLY = frozenset({"zip", "tar", "libarchive", "http", "https", "github", "git", "data"})
# Seconds between two copies of the manifest, and how many times longer than the copy took.
_INTERVAL, _SHARE = 60.0, 20.0


def state_folder(root: str) -> Path:
    """Where the manifest of a store is kept on this machine."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base) / "ansm-fast" / hashlib.sha256(root.encode()).hexdigest()[:24]


def _protocols(filesystem: AbstractFileSystem) -> tuple[str, ...]:
    found = filesystem.protocol
    return (found,) if isinstance(found, str) else tuple(found)


class UrlPlace:
    """A file below the root. Whether it is there is answered from a listing made once, and by
    ``write`` anew."""

    __slots__ = ("_name", "_store")

    def __init__(self, store: UrlStore, name: str) -> None:
        self._store, self._name = store, name

    def __str__(self) -> str:
        return f"{self._store}/{self._name}"

    @property
    def name(self) -> str:
        return self._name.rpartition("/")[2]

    @property
    def address(self) -> str:
        return f"{self._store.root}/{self._name}"

    @property
    def _path(self) -> str:
        return f"{self._store.path}/{self._name}"

    def lies_there(self) -> bool:
        return self._name in self._store.listing

    def may_be_read(self) -> bool:
        return self.lies_there()

    def size(self) -> int | None:
        return self._store.listing.get(self._name)

    def checksum(self) -> str | None:
        found = hashlib.sha256()
        try:
            with (
                as_os_error(str(self)),
                self._store.filesystem.open(self._path, "rb") as file,
            ):
                while part := file.read(1 << 20):
                    found.update(part)
        except OSError:
            return None
        return found.hexdigest()

    def write(self, content: bytes, may_replace: Callable[[], bool], token: str) -> None:
        found = hashlib.sha256(content).hexdigest()
        self._write(lambda mode: self._put(content, token, mode), found, len(content), may_replace)

    def put(self, file: Path, may_replace: Callable[[], bool]) -> None:
        def put(mode: str) -> None:
            self._store.filesystem.put_file(str(file), self._path, mode=mode)

        self._write(put, checksum_of(file), file.stat().st_size, may_replace)

    def _write(
        self, put: Callable[[str], None], found: str, size: int, may_replace: Callable[[], bool]
    ) -> None:
        with as_os_error(str(self)):
            if not self._is_there():
                try:
                    put("create")
                except Exception:
                    if not self._is_there():
                        raise
                    raise Occupied(str(self)) from None
            elif self.checksum() != found:  # else by a run whose manifest was lost
                if not may_replace():
                    raise Occupied(str(self))
                put("overwrite")
        self._store.listing[self._name] = size

    def _is_there(self) -> bool:
        return bool(self._store.filesystem.exists(self._path))

    def _put(self, content: bytes, token: str, mode: str) -> None:
        filesystem = self._store.filesystem
        if self._store.is_whole:
            filesystem.pipe_file(self._path, content, mode=mode)
            return
        filesystem.makedirs(self._path.rpartition("/")[0], exist_ok=True)
        temporary = self._temporary(token)
        try:
            filesystem.pipe_file(temporary, content)
            if mode == "create" and self._is_there():
                raise Occupied(str(self))
            filesystem.mv(temporary, self._path)
        except BaseException:
            with contextlib.suppress(Exception):
                filesystem.rm_file(temporary)
            raise

    def _temporary(self, token: str) -> str:
        folder, _, name = self._path.rpartition("/")
        return f"{folder}/.{name[:200]}.{token}.tmp"

    def remove(self) -> None:
        with contextlib.suppress(Exception):
            self._store.filesystem.rm_file(self._path)
        self._store.listing.pop(self._name, None)

    def remove_leftover(self, token: str) -> None:
        if not self._store.is_whole:
            with contextlib.suppress(Exception):
                self._store.filesystem.rm_file(self._temporary(token))


class UrlStore:
    """The tree below an address.

    Raises:
        InputError: it is none, cannot be written to, or what it needs isn't installed.
    """

    def __init__(self, url: str, option: str = "-o") -> None:
        # Before it is opened, which may ask for a package that would be of no use.
        scheme = url.partition("://")[0].lower()
        if "::" in url or scheme in _READ_ONLY:
            raise InputError(
                f"{option} {url}: {scheme}:// is read here and not written to; give a folder "
                "or a store of objects, as s3://"
            )
        self.filesystem, path = open_url(url)
        self._given, self.path = url.rstrip("/"), path.rstrip("/")
        protocols = _protocols(self.filesystem)
        self.root = str(self.filesystem.unstrip_protocol(self.path))
        self.is_whole = bool(_WHOLE & set(protocols))
        self.state = state_folder(self.root)
        self._listing: dict[str, int] | None = None
        self._lock = threading.Lock()
        self._put_last = b""
        self._over = threading.Event()
        self._copier: threading.Thread | None = None
        self._held: IO[str] | None = None
        self._seen = ""  # the version of the manifest there that this machine has all of

    def __str__(self) -> str:
        return self._given

    def __reduce__(self) -> tuple[type[UrlStore], tuple[str]]:
        """In another process it is opened anew."""
        return UrlStore, (self._given,)

    @property
    def listing(self) -> dict[str, int]:
        """Sizes by name, as they were when first asked for and with what was written since."""
        with self._lock:
            if self._listing is None:
                with as_os_error(self._given):
                    try:
                        found = self.filesystem.find(self.path, detail=True)
                    except FileNotFoundError:
                        found = {}
                    self.filesystem.invalidate_cache()
                start = len(self.path) + 1
                self._listing = {
                    path[start:]: int(info.get("size") or 0) for path, info in found.items()
                }
            return self._listing

    @property
    def real_root(self) -> str:
        return self.root

    def place(self, name: str) -> UrlPlace:
        return UrlPlace(self, name)

    def is_taken(self, name: str) -> bool:
        """Writing tells: what lies there may be the very output, of a run whose manifest was lost
        with its machine."""
        return False

    def prepare(self, option: str) -> None:
        prepare_folder(self.state, option)
        try:
            _ = self.listing
        except OSError as error:
            raise InputError(
                f"cannot use {option} {self._given}: {error.strerror or error}"
            ) from error

    def begin(self) -> None:
        """Take the manifest that is there, and begin to put it back from time to time."""
        self.state.mkdir(parents=True, exist_ok=True)
        self._held = (self.state / "lock").open("w")
        if fcntl is not None:
            try:
                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f"another run is writing to {self._given}; wait until it ends, or give another "
                    "address to -o"
                ) from error
            except OSError:  # a file system without locks
                pass
        try:
            self._merge()
        except OSError as error:
            raise InputError(
                f"cannot read {self._given}/{MANIFEST}: {error.strerror or error}"
            ) from error
        self._see_that_it_can_be_written()
        self._over.clear()
        self._copier = threading.Thread(target=self._copies, daemon=True)
        self._copier.start()

    def end(self, *, failed: bool = False) -> None:
        """Put the manifest where the outputs are."""
        self._over.set()
        if self._copier is not None:
            self._copier.join()
        try:
            if not failed:
                self.put_manifest()
        except OSError as error:
            raise InputError(
                f"cannot write {self._given}/{MANIFEST}: {error.strerror or error}; it lies in "
                f"{self.state}, and the same command goes on from there"
            ) from error
        finally:
            if self._held is not None:
                self._held.close()

    def _copies(self) -> None:
        pause = _INTERVAL
        while not self._over.wait(pause):
            begun = time.monotonic()
            with contextlib.suppress(OSError):  # the last one tells
                self.put_manifest()
            pause = max(_INTERVAL, _SHARE * (time.monotonic() - begun))

    def _merge(self) -> None:
        """Add the lines of the manifest there, which another machine may have written, to the one
        here. Ours come last: where both tell of an input, what this machine did counts."""
        theirs = self._theirs()
        here = self.state / MANIFEST
        ours = here.read_bytes() if here.exists() else b""
        if new := _others(theirs, ours):
            write_bytes(here, theirs if theirs.startswith(ours) else new + ours)

    def _see_that_it_can_be_written(self) -> None:
        """Before images are defended that nothing could be done with."""
        try:
            with as_os_error(self._given):
                if not self.filesystem.exists(f"{self.path}/{MANIFEST}"):
                    if not self.is_whole:
                        self.filesystem.makedirs(self.path, exist_ok=True)
                    self.filesystem.pipe_file(f"{self.path}/{MANIFEST}", b"")
        except OSError as error:
            raise InputError(
                f"cannot write to {self._given}: {error.strerror or error}; give another address"
            ) from error

    def put_manifest(self) -> None:
        """Put the manifest here to where the outputs are, with the lines that came there."""
        here = self.state / MANIFEST
        content = here.read_bytes() if here.exists() else b""
        content = content[: content.rfind(b"\n") + 1]  # whole lines
        content = _others(self._theirs(), content) + content
        if not content or content == self._put_last:
            return
        there = f"{self.path}/{MANIFEST}"
        with as_os_error(f"{self._given}/{MANIFEST}"):
            self.filesystem.pipe_file(there, content)
            self._seen, self._put_last = version(self.filesystem.info(there)), content

    def _theirs(self) -> bytes:
        """The manifest there, if it is another one than was there last."""
        there = f"{self.path}/{MANIFEST}"
        with as_os_error(f"{self._given}/{MANIFEST}"):
            try:
                info: dict[str, Any] = self.filesystem.info(there)
            except FileNotFoundError:
                return b""
            if self._seen and version(info) == self._seen:
                return b""
            content = self.filesystem.cat_file(there)
        if not all(line.startswith(BEGINNING) for line in content.splitlines() if line):
            raise OSError(errno.EEXIST, "it is another program's file, which nothing is written to")
        self._seen = version(info)
        return content


def _others(theirs: bytes, ours: bytes) -> bytes:
    """The lines of theirs that are not ours."""
    if ours.startswith(theirs):
        return b""
    known = set(ours.split(b"\n"))
    return b"".join(line + b"\n" for line in theirs.split(b"\n") if line and line not in known)
