"""Tar files, as WebDataset's shards: what is in them, and their like with other images.

A shard's members are read where they lie. None is ever extracted under its own name, wherever that
leads.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import io
import posixpath
import tarfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from ansm_fast.errors import InputError
from ansm_fast.images.formats import IMAGE_SUFFIXES
from ansm_fast.images.photograph import BadImage
from ansm_fast.images.regular_files import check_regular
from ansm_fast.inference.files import FileSource, Source
from ansm_fast.inference.urls import UrlSource
from ansm_fast.json_lines import Record

_BLOCK = tarfile.BLOCKSIZE
_PACKED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2", b"\xfd7": "unxz", b"\x28\xb5": "unzstd"}


def is_shard(name: str) -> bool:
    """Tell a tar file, packed or not, by its name."""
    return name.lower().endswith((".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst"))


class OpenShard:
    """A tar file that several threads read from, and which is still the one that was opened where
    another takes its name."""

    def __init__(self, path: Path) -> None:
        self._file, self._lock = path.open("rb"), threading.Lock()

    def read(self, start: int, size: int) -> bytes:
        """OSError if it was cut."""
        with self._lock:
            self._file.seek(start)
            content = self._file.read(size)
        if len(content) != size:
            raise OSError(errno.EIO, "the tar file was cut")
        return content

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, eq=False)
class MemberSource:
    """An image in an open shard. Its place among the outputs is its number, whatever its name.

    Args:
        shard: the key of the shard.
        identity_of_shard: what tells that the shard is still the same.
    """

    file: OpenShard
    shard: str
    identity_of_shard: str
    member: tarfile.TarInfo
    number: int

    def __str__(self) -> str:
        return f"{self.shard}: {self.member.name}"

    @property
    def relative(self) -> PurePosixPath:
        suffix = posixpath.splitext(self.member.name)[1]
        kept = suffix if suffix.lower() in IMAGE_SUFFIXES else ""
        return PurePosixPath(f"{self.number:08d}{kept}")

    @property
    def key(self) -> str:
        return f"tar://{self.member.name}#{self.number}::{self.shard}"

    def read(self) -> bytes:
        return self.file.read(self.member.offset_data, self.member.size)

    def identity(self) -> Record:
        version = f"{self.identity_of_shard} {self.member.offset_data}"
        return {"input_bytes": self.member.size, "input_version": version}


class Shard:
    """A tar file of this machine, or of a store, from which it is fetched when its turn comes."""

    def __init__(self, source: FileSource | UrlSource) -> None:
        self.source = source

    def __str__(self) -> str:
        return str(self.source)

    @property
    def key(self) -> str:
        return self.source.key

    @property
    def relative(self) -> PurePosixPath:
        return self.source.relative

    @property
    def is_local(self) -> bool:
        return isinstance(self.source, FileSource)

    def identity(self) -> Record:
        return self.source.identity()

    def read(self) -> bytes:
        raise NotImplementedError("a shard is read member by member")

    def at_hand(self, folder: Path) -> Path:
        """The file itself, or a copy in ``folder``; OSError if it cannot be read."""
        if isinstance(self.source, FileSource):
            check_regular(self.source.path)
            return self.source.path
        return self.source.fetch(folder / "input.tar")


def members_of(path: Path) -> list[tarfile.TarInfo]:
    """Every entry of a tar file, in order; none of their content is read.

    Raises:
        BadImage: it is no tar file, packed, or cut short.
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            found = _entries(tar)
            end, size = tar.offset, file.seek(0, io.SEEK_END)  # type: ignore[attr-defined]
            file.seek(end)
            # tarfile takes whatever follows a whole member for the end.
            if end != size and file.read(_BLOCK) != bytes(_BLOCK):
                raise BadImage("is truncated or damaged after its last whole member")
    except (BadImage, OSError, MemoryError):
        raise
    except Exception as error:  # a damaged header may raise anything
        with path.open("rb") as file:
            head = file.read(2)
        if head in _PACKED:
            raise BadImage(f"is packed, and so cannot be read here and there; {_PACKED[head]} it"
                ) from error  # fmt: skip
        raise BadImage(f"is no tar file, or damaged ({error})") from error
    if found and (last := found[-1]).offset_data + last.size > size:
        raise BadImage("is truncated or damaged: its last member is cut")
    if any(member.issparse() for member in found):
        raise BadImage("has sparse members, which are not supported; pack it anew without")
    return found


def _entries(tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    found: list[tarfile.TarInfo] = []
    for member in tar:
        # By a size below zero one would come to the same entries again and again.
        if member.size < 0 or (found and member.offset_data <= found[-1].offset_data):
            raise BadImage("is damaged: an entry has an impossible size")
        found.append(member)
    return found


def images_among(
    members: Sequence[tarfile.TarInfo], pattern: str | None
) -> dict[int, tarfile.TarInfo]:
    """The members that are images to defend, by number.

    Args:
        pattern: of the names of those, as ``*.jpg``; None: all images.

    Raises:
        BadImage: without a pattern, a sample (what has one name up to its first dot) has several
            images, one of which may be its label.
    """
    found: dict[int, tarfile.TarInfo] = {}
    samples: dict[str, str] = {}
    for number, member in enumerate(members):
        path = PurePosixPath(member.name)
        if not member.isreg() or not path.name or path.name.startswith("."):
            continue
        if pattern is not None:
            if fnmatch.fnmatchcase(member.name, pattern):
                found[number] = member
            continue
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        sample = str(path.with_name(path.name.partition(".")[0]))
        other = samples.setdefault(sample, member.name)
        if other != member.name:
            raise BadImage(
                f"has several images of one sample ({other}, {member.name}); tell by --members "
                "which are photographs, as --members '*.jpg', or --members '*' for all"
            )
        found[number] = member
    return found


class _Hashed:
    """A file that is written to, and the SHA-256 of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash = file, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self._hash.update(content)
        return self._file.write(content)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


# What stands for an image of a shard: files, with the endings that follow the image's name without
# its suffix.
Replacement = Sequence[tuple[str, Path]]


def repack(
    source: Path,
    members: Sequence[tarfile.TarInfo],
    images: Mapping[int, tarfile.TarInfo],
    replacements: Mapping[int, Replacement],
    target: Path,
) -> str:
    """Write a shard like ``source``: each image replaced, or left out if nothing stands for it, and
    everything else as it is. Returns its SHA-256; the same input gives the same bytes.

    Raises:
        OSError: something cannot be read or written.
    """
    with target.open("wb") as raw, source.open("rb") as given:
        hashed = _Hashed(raw)
        with tarfile.open(fileobj=hashed, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
            for number, member in enumerate(members):
                if number not in images:
                    if not member.isreg():
                        tar.addfile(member)
                        continue
                    given.seek(member.offset_data)
                    tar.addfile(_like(member, member.name, member.size), given)
                    continue
                for ending, path in replacements.get(number, ()):
                    name = posixpath.splitext(member.name)[0] + ending
                    with path.open("rb") as content:
                        tar.addfile(_like(member, name, path.stat().st_size), content)
        return hashed.hexdigest()


def _like(member: tarfile.TarInfo, name: str, size: int) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.size, found.mtime, found.mode = size, member.mtime, member.mode
    found.uid, found.gid = member.uid, member.gid
    found.uname, found.gname = member.uname, member.gname
    return found


def sources_of(
    shard: Shard, file: OpenShard, images: Mapping[int, tarfile.TarInfo]
) -> list[MemberSource]:
    """The images of an open shard as inputs."""
    identity = " ".join(str(value) for value in shard.identity().values())
    return [
        MemberSource(file, shard.key, identity, member, number) for number, member in images.items()
    ]


def check_shards(
    shards: Sequence[Shard], sources: Sequence[Source], members: str | None, masks: str | None
) -> None:
    """See that options suit what is given; InputError if not."""
    if shards and len(shards) != len(sources):
        raise InputError(
            f"{shards[0]} is a tar file among images; defend the two by commands of their own"
        )
    if shards and masks is not None:
        raise InputError(
            f"--masks {masks}: the masks of a tar file's images go into the tar file beside them; "
            "give --localizer alone"
        )
    if members is not None and not shards:
        raise InputError(f"--members {members} is for tar files, and none is given")
