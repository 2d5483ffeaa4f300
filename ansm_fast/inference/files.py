"""Which files to defend, and the name of each output."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Protocol

from ansm_fast.errors import InputError
from ansm_fast.images.formats import SUFFIXES
from ansm_fast.images.regular_files import read_unchanged
from ansm_fast.inference.stores import Place, Store, as_store
from ansm_fast.json_lines import Record

READABLE = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".webp", ".bmp"})
# Images all the same: passing over them in silence would lose them, so they are reported.
UNREADABLE = frozenset(
    {".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw"}
)

_LONGEST_NAME = 255  # bytes, in nearly every file system


SHARD = ".tar"


class Source(Protocol):
    """An input, whatever holds it; ``str`` of it is what a user calls it."""

    @property
    def relative(self) -> PurePosixPath:
        """Its place in the output tree, with the input's suffix."""

    @property
    def key(self) -> str:
        """What the manifest calls it; comparable with the addresses of places."""

    def read(self) -> bytes:
        """The whole content; OSError if it cannot be read, NotAFile if it is no file."""

    def identity(self) -> Record:
        """What tells that it is still the same: fields of the manifest, ``input_bytes`` one of
        them; OSError if it is gone."""


@dataclass(frozen=True)
class FileSource:
    """A file of this machine."""

    path: Path
    relative: PurePosixPath

    def __str__(self) -> str:
        return str(self.path)

    @property
    def key(self) -> str:
        """Absolute path, links of its folder followed; a link and its target are two inputs."""
        folder, name = os.path.split(os.path.abspath(self.path))
        return os.path.join(os.path.realpath(folder), name)

    def read(self) -> bytes:
        return read_unchanged(self.path)[0]

    def identity(self) -> Record:
        status = self.path.stat()
        return {"input_bytes": status.st_size, "input_mtime_ns": status.st_mtime_ns}


def from_files(paths: Iterable[Path]) -> list[FileSource]:
    """Return the named files, each once. One that is not there or no file is left to the run, which
    reports it; where there is none but such, InputError."""
    paths = list(paths)
    if not any(os.path.exists(path) and not os.path.isdir(path) for path in paths):
        for path in paths:
            if os.path.isdir(path):
                raise InputError(f"{path} is a folder; give it to --batch")
            if not os.path.lexists(path):
                raise InputError(f"no such file: {path}; check the name")
    unique: dict[str, FileSource] = {}
    for path in paths:
        name = os.path.basename(os.path.abspath(path)) or "root"
        source = FileSource(path, PurePosixPath(name))
        unique.setdefault(source.key, source)
    return list(unique.values())


def mask_names(output: PurePosixPath | str) -> tuple[str, str]:
    """Return what the masks before and after are called: of ``a/b.png`` ``a/b.before.png`` and
    ``a/b.after.png``."""
    name = PurePosixPath(output)
    before, after = (str(_fitting(name, f".{when}.png")) for when in ("before", "after"))
    return before, after


def _fitting(name: PurePosixPath, end: str) -> PurePosixPath:
    """``name`` with ``end`` in place of its suffix. Where no file system has names so long, a
    digest of the whole takes the place of what is too much."""
    wanted = name.stem + end
    if len(os.fsencode(wanted)) <= _LONGEST_NAME:
        return name.with_name(wanted)
    tail = f"-{hashlib.sha256(os.fsencode(name.name)).hexdigest()[:8]}{end}"
    stem = name.stem
    while len(os.fsencode(stem + tail)) > _LONGEST_NAME:
        stem = stem[:-1]
    return name.with_name(stem + tail)


def targets(output: Store, masks: Store | None, name: PurePosixPath | str) -> list[Place]:
    """Return the files of one input: its output, and with ``masks`` those before and after."""
    found = [output.place(str(name))]
    if masks is not None:
        found += [masks.place(mask) for mask in mask_names(name)]
    return found


def safe_output_name(record: Mapping[str, object]) -> str | None:
    """Return the output that a record names, unless it leads out of the folder of the outputs."""
    name = record.get("output")
    if not isinstance(name, str) or "\0" in name:
        return None
    path = PurePosixPath(name)
    suffixes = (*SUFFIXES.values(), SHARD)
    if path.suffix not in suffixes and record.get("defended") is not False:
        return None
    return name if path.stem and not path.is_absolute() and ".." not in path.parts else None


def addresses(sources: Iterable[Source]) -> set[str]:
    """Of all that the sources are made of, and that nothing may be written over."""
    found = set()
    for source in sources:
        found.add(source.key)
        if isinstance(source, FileSource):
            found.add(os.path.realpath(source.path))
    return found


class OutputNames:
    """Gives out names below ``output``; safe to call from several threads.

    No two names are alike, and a file of any name is none an input's own path and nothing that
    lies there already. Names are compared without regard to case, for file systems that do the
    same.

    Args:
        masks: where the masks go, whose names follow from the output's.
        inputs: addresses of the inputs.
        reserved: names that belong to inputs of earlier runs.
        suffix: of the format that is asked for.
        may_return: tells whether an input had a name before, and what lies there may be its own.
    """

    def __init__(
        self,
        output: Store,
        masks: Store | None,
        inputs: Iterable[str],
        reserved: Iterable[str],
        suffix: str = ".png",
        may_return: Callable[[str, str], bool] = lambda key, name: False,
    ) -> None:
        self._output, self._masks, self._lock = output, masks, threading.Lock()
        self._suffix, self._may_return = suffix, may_return
        self._inputs = {path.casefold() for path in inputs}
        self._taken: set[str] = set()
        self._given: dict[str, list[PurePosixPath]] = defaultdict(list)  # by key
        for name in reserved:
            self._take(PurePosixPath(name))

    def _addresses(self, name: PurePosixPath) -> list[str]:
        places = targets(self._output, self._masks, name)
        return [place.address.casefold() for place in places]

    def _take(self, name: PurePosixPath) -> None:
        self._taken.update(self._addresses(name))

    def _free(self, name: PurePosixPath) -> bool:
        if any(one in self._taken or one in self._inputs for one in self._addresses(name)):
            return False
        masks = () if self._masks is None else mask_names(name)
        return not (
            self._output.is_taken(str(name))
            or any(self._masks is not None and self._masks.is_taken(mask) for mask in masks)
        )

    def _numbered(self, source: Source, suffix: str) -> Iterator[PurePosixPath]:
        number = 2
        while True:
            yield _fitting(source.relative, f"-{number}{suffix}")
            number += 1

    def _first_free(self, candidates: Iterable[PurePosixPath], source: Source) -> PurePosixPath:
        given = self._given[source.key]
        name = next(
            name
            for name in candidates
            if name not in given and (self._free(name) or self._may_return(source.key, str(name)))
        )
        self._take(name)
        given.append(name)
        return name

    def keep(self, source: Source, name: PurePosixPath) -> None:
        """Note that an input has a name from an earlier run."""
        self._given[source.key].append(name)

    def another(self, source: Source, suffix: str | None = None) -> PurePosixPath:
        """Return a further name, for a file whose own was taken meanwhile or that has another
        suffix than the format's."""
        suffix = self._suffix if suffix is None else suffix
        given = self._given[source.key]
        candidates = chain(own_names(source, suffix), self._numbered(source, suffix))
        with self._lock:
            if given and given[-1].suffix != suffix:  # nothing was written under that name
                self._taken.difference_update(self._addresses(given[-1]))
            return self._first_free(candidates, source)

    def give(self, sources: Iterable[Source]) -> dict[Source, PurePosixPath]:
        """``a.jpg`` becomes ``a.png`` (or what the suffix is). Where ``a.jpg`` and ``a.png`` meet,
        the PNG keeps its name and the other becomes ``a.jpg.png``; a number tells apart what is
        left."""
        suffix = self._suffix
        names: dict[Source, PurePosixPath] = {}
        groups: dict[str, list[Source]] = defaultdict(list)
        for source in sources:
            groups[str(own_names(source, suffix)[0]).casefold()].append(source)
        with self._lock:
            for group in groups.values():
                for source in sorted(group, key=lambda s: s.relative.suffix.lower() != suffix):
                    is_same = source.relative.suffix.lower() == suffix
                    plain, full = own_names(source, suffix)
                    candidates = [plain, full] if len(group) == 1 or is_same else [full]
                    numbered = self._numbered(source, suffix)
                    names[source] = self._first_free(chain(candidates, numbered), source)
        return names


def own_names(source: Source, suffix: str) -> tuple[PurePosixPath, PurePosixPath]:
    """Return ``a.png`` and ``a.jpg.png``: the names that an output of ``a.jpg`` has without a
    number."""
    return (
        _fitting(source.relative, suffix),
        _fitting(source.relative, source.relative.suffix + suffix),
    )


def output_names(
    sources: Iterable[Source],
    output: Path | Store,
    claimed: Mapping[str, str],
    masks: Path | Store | None = None,
) -> dict[Source, PurePosixPath]:
    """A PNG name below ``output`` for each source; see ``OutputNames``.

    Args:
        claimed: key to output name of earlier runs; a source keeps its name, and no other source
            takes it.
    """
    sources = list(sources)
    stores = as_store(output), None if masks is None else as_store(masks)
    names = OutputNames(*stores, addresses(sources), claimed.values())
    given = names.give(source for source in sources if source.key not in claimed)
    return {
        source: given[source] if source in given else PurePosixPath(claimed[source.key])
        for source in sources
    }
