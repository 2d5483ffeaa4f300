"""Inputs and outputs that fsspec reaches: ``s3://``, ``gs://``, ``memory://``, ``zip://`` and more.

fsspec and what it needs for a scheme are asked for by name, ``pip install 'ansm-fast[urls]'``.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ansm_fast.errors import InputError
from ansm_fast.images.atomic import Occupied
from ansm_fast.images.formats import IMAGE_SUFFIXES, OTHER_SUFFIXES
from ansm_fast.images.regular_files import NotAFile
from ansm_fast.json_lines import Record

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+(?=://|::)")
# What tells versions of a file apart, the surest first.
_VERSIONS = (
    "ETag", "etag", "md5Hash", "content_md5", "generation", "CRC", "mtime", "LastModified",
    "last_modified", "updated", "modified", "created", "date_time",
)  # fmt: skip


def is_url(text: str) -> bool:
    """Tell ``s3://bucket/a`` and ``zip://a::b.zip`` from the name of a file."""
    return "://" in text and _SCHEME.match(text) is not None


def local_path(url: str) -> Path | None:
    """The path of a plain ``file://`` or ``local://`` address, which needs no fsspec; else None."""
    match = re.fullmatch(r"(?:file|local)://(.*)", url, re.S)
    return Path(match[1]) if match and "::" not in url else None


def open_url(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of an address, and the path in it.

    Raises:
        InputError: fsspec or what it needs for the scheme isn't installed, there is no such
            scheme, or the address cannot be opened.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise InputError(f"{url} needs fsspec: pip install 'ansm-fast[urls]'") from error
    if archive := re.fullmatch(r"zip://([^:]+\.zip)", url, re.I):
        url = f"zip://::{archive[1]}"
    match = _SCHEME.match(url)
    scheme = match[0] if match else url
    try:
        filesystem, path = url_to_fs(url)
    except ImportError as error:
        reason = str(error).splitlines()[0] if str(error) else f"{scheme} needs another package"
        raise InputError(f"cannot open {url}: {reason}, with pip") from error
    except ValueError as error:
        if "Protocol not known" not in str(error):
            raise InputError(f"cannot open {url}: {_first_line(error)}") from error
        raise InputError(
            f"unknown scheme in {url}; expected a path or one of fsspec's schemes, as s3://, "
            "gs://, zip:// or memory://"
        ) from error
    except Exception as error:  # a store raises what it likes
        raise InputError(f"cannot open {url}: {_first_line(error)}") from error
    return filesystem, path


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def as_os_error(what: str) -> Iterator[None]:
    """Stores raise errors of their own kinds: here all of them are OSErrors, told in a line."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(2, "No such file", what) from None
    except (FileExistsError, Occupied):
        raise
    except OSError as error:
        if error.strerror:
            raise
        raise OSError(5, _first_line(error), what) from error
    except MemoryError:
        raise
    except Exception as error:
        raise OSError(5, _first_line(error), what) from error


def version(info: dict[str, Any]) -> str:
    """What of a store's description tells that a file is still the same."""
    for key in _VERSIONS:
        if (value := info.get(key)) is not None:
            # Listings of some stores have times as numbers.
            return f"{key} {value.timestamp() if hasattr(value, 'timestamp') else value}"
    return ""


class UrlSource:
    """A file that fsspec reads.

    Args:
        info: its description from a listing, which serves until it was read.
    """

    def __init__(
        self,
        filesystem: AbstractFileSystem,
        path: str,
        name: str,
        relative: PurePosixPath,
        info: dict[str, Any] | None = None,
    ) -> None:
        self._filesystem, self._path, self._name = filesystem, path, name
        self.relative, self._listed = relative, info

    def __str__(self) -> str:
        return self._name

    @property
    def key(self) -> str:
        """The address, of an archive's member with that of the archive."""
        return self._name

    def read(self) -> bytes:
        self._listed = None
        with as_os_error(self._name):
            return self._filesystem.cat_file(self._path)

    def fetch(self, target: Path) -> Path:
        """Copy it to this machine."""
        self._listed = None
        with as_os_error(self._name):
            self._filesystem.get_file(self._path, str(target))
        return target

    def identity(self) -> Record:
        info = self._listed
        if info is None:
            with as_os_error(self._name):
                info = self._filesystem.info(self._path)
        if info.get("type") == "directory":
            raise NotAFile("a folder")
        size = info.get("size")
        if size is None:  # as web servers may leave it out
            with as_os_error(self._name):
                size = len(self._filesystem.cat_file(self._path))
        return {"input_bytes": size, "input_version": version(info)}


def _name_of(filesystem: AbstractFileSystem, url: str, path: str) -> str:
    """The address of a file: that of its store, and for a member of an archive the archive's."""
    name = str(filesystem.unstrip_protocol(path))
    if archive := re.fullmatch(r"zip://([^:]+\.zip)", url, re.I):
        rest = archive[1]
    else:
        rest = url.partition("::")[2]
    if not rest:
        return name
    return f"{name}::{rest if is_url(rest) else os.path.abspath(rest)}"


def _base(url: str, path: str) -> str:
    """The name of a file, without what an address of the web may have behind it."""
    name = PurePosixPath(path).name
    return name.partition("?")[0] if url.startswith(("http://", "https://")) else name


def _safe(relative: str) -> PurePosixPath:
    """A member's place below the outputs, wherever its name leads."""
    parts = [part for part in PurePosixPath(relative).parts if part not in ("/", "..", ".")]
    return PurePosixPath(*parts)


def below_url(url: str, output: str = "") -> list[UrlSource]:
    """Every image below an address, sorted; hidden ones are left out, as in a folder, and what
    lies below the address ``output``.

    Raises:
        InputError: it cannot be listed, isn't there, or has no image.
    """
    filesystem, root = open_url(url)
    if output and str(filesystem.unstrip_protocol(root)).rstrip("/") == output:
        raise InputError(f"output {output} is the input folder; give another address to -o")
    try:
        listed: dict[str, dict[str, Any]] = filesystem.find(root, detail=True)
    except FileNotFoundError:
        listed = {}
    except Exception as error:  # a store raises what it likes
        raise InputError(f"cannot list {url}: {_first_line(error)}") from error
    if not listed:
        raise InputError(f"no such folder, or nothing in it: {url}; give another one to --batch")
    filesystem.invalidate_cache()
    suffixes = {PurePosixPath(path).suffix.lower() for path in listed}
    # A folder without images may be one of shards.
    wanted = IMAGE_SUFFIXES | OTHER_SUFFIXES if suffixes & IMAGE_SUFFIXES else {".tar"}
    prefix = root.rstrip("/") + "/" if root.rstrip("/") else ""
    found: list[UrlSource] = []
    for path, info in sorted(listed.items()):
        relative = _safe(path.removeprefix(prefix).lstrip("/"))
        if relative.suffix.lower() not in wanted:
            continue
        name = _name_of(filesystem, url, path)
        hidden = any(part.startswith(".") for part in relative.parts)
        if not hidden and not (output and name.startswith(f"{output}/")):
            found.append(UrlSource(filesystem, path, name, relative, info))
    if not found:
        raise InputError(
            f"no image in {url}; expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return found


def listed_urls(urls: Sequence[str]) -> list[UrlSource]:
    """The files of addresses, in the tree below what they have in common. Whether they are there
    is left to their reading: each would have to be asked for.

    Raises:
        InputError: nothing can be known of such an address.
    """
    opened = [open_url(url) for url in urls]
    # Of several stores, some of which begin their paths by a slash.
    places = [path.lstrip("/") for _, path in opened]
    common = posixpath.commonpath([posixpath.dirname(place) or "." for place in places])
    return [
        UrlSource(
            filesystem,
            path,
            _name_of(filesystem, url, path),
            _safe(posixpath.relpath(place, common) if common else place),
        )
        for url, (filesystem, path), place in zip(urls, opened, places, strict=True)
    ]


def of_url(url: str) -> list[UrlSource]:
    """The file of an address, or those that it is a pattern of.

    Raises:
        InputError: there is none.
    """
    filesystem, path = open_url(url)
    is_pattern = any(letter in path for letter in "*?[")
    try:
        if is_pattern and not filesystem.exists(path):
            found: dict[str, dict[str, Any]] = filesystem.glob(path, detail=True)
        else:
            found = {path: filesystem.info(path)}
    except FileNotFoundError as error:
        raise InputError(f"no such file: {url}; check the name") from error
    except Exception as error:  # a store raises what it likes
        raise InputError(f"cannot open {url}: {_first_line(error)}") from error
    files = {one: info for one, info in found.items() if info.get("type") != "directory"}
    if not files:
        if found:
            raise InputError(f"{url} is a folder; give it to --batch")
        raise InputError(f"no file matches {url}; check the pattern")
    filesystem.invalidate_cache()
    base = path[: min(path.index(letter) for letter in "*?[" if letter in path)] if (
        is_pattern and len(files) > 1
    ) else None  # fmt: skip
    cut = len(base.rpartition("/")[0]) + 1 if base and "/" in base else 0
    return [
        UrlSource(
            filesystem,
            one,
            _name_of(filesystem, url, one),
            _safe(one[cut:]) if base is not None else PurePosixPath(_base(url, one)),
            info,
        )
        for one, info in sorted(files.items())
    ]
