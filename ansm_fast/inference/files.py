"""Which files to defend, and the name of each output."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ansm_fast.errors import InputError

READABLE = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".webp", ".bmp"})
# Images all the same: passing over them in silence would lose them, so they are reported.
UNREADABLE = frozenset(
    {".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw"}
)


@dataclass(frozen=True)
class Source:
    """An input file and its place in the output tree (relative, with the input's suffix)."""

    path: Path
    relative: PurePosixPath

    @property
    def key(self) -> str:
        """Absolute path, links followed: what the manifest calls this input."""
        return os.path.realpath(self.path)


def from_folder(folder: Path, output: Path) -> list[Source]:
    """Every image below ``folder``, sorted; hidden files and ``output`` itself are left out.

    Raises:
        InputError: no such folder, no image in it, or ``output`` is the folder itself.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}; give an existing folder to --batch")
    if os.path.realpath(output) == os.path.realpath(folder):
        raise InputError(f"output {output} is the input folder; give another folder to -o")
    excluded = os.path.realpath(output)
    found: list[Source] = []
    for root, folders, names in os.walk(folder):
        base = Path(root)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(base / name) != excluded
        )
        for name in sorted(names):
            suffix = os.path.splitext(name)[1].lower()
            if not name.startswith(".") and suffix in READABLE | UNREADABLE:
                path = base / name
                found.append(Source(path, PurePosixPath(path.relative_to(folder).as_posix())))
    if not found:
        raise InputError(
            f"no image in {folder}; expected files ending in {', '.join(sorted(READABLE))}"
        )
    return found


def from_files(paths: Iterable[Path]) -> list[Source]:
    """Return the named files, each once; InputError if one does not exist."""
    unique: dict[str, Source] = {}
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path} is a folder; give it to --batch")
        if not path.exists():
            raise InputError(f"no such file: {path}; check the name")
        source = Source(path, PurePosixPath(path.name))
        unique.setdefault(source.key, source)
    return list(unique.values())


def mask_paths(folder: Path, output: str) -> tuple[Path, Path]:
    """Return where the masks before and after go: ``a/b.png`` to ``a/b.before.png``,
    ``a/b.after.png``."""
    path = folder / output
    return path.with_suffix(".before.png"), path.with_suffix(".after.png")


def targets(output: Path, masks: Path | None, name: PurePosixPath | str) -> list[Path]:
    """Return the files of one input: its output, and with ``masks`` those before and after."""
    return [output / name, *(mask_paths(masks, str(name)) if masks is not None else ())]


def safe_output_name(record: Mapping[str, object]) -> str | None:
    """Return the output that a record names, unless it leads out of the folder of the outputs."""
    name = record.get("output")
    if not isinstance(name, str) or "\0" in name or not name.endswith(".png"):
        return None
    path = PurePosixPath(name)
    return name if path.stem and not path.is_absolute() and ".." not in path.parts else None


class OutputNames:
    """Gives out PNG names below ``output``; safe to call from several threads.

    No two names are alike, and a file of any name is none an input's own path and nothing that
    lies there already. Names are compared without regard to case, for file systems that do the
    same.

    Args:
        masks: folder of the masks, whose names follow from the output's.
        inputs: absolute paths of the inputs.
        reserved: names that belong to inputs of earlier runs.
    """

    def __init__(
        self, output: Path, masks: Path | None, inputs: Iterable[str], reserved: Iterable[str]
    ) -> None:
        self._output, self._masks, self._lock = output, masks, threading.Lock()
        self._inputs = {path.casefold() for path in inputs}
        self._taken: set[str] = set()
        self._listed: dict[str, set[str]] = {}
        self._real: dict[Path, str] = {}
        for name in reserved:
            self._take(PurePosixPath(name))

    def _paths(self, name: PurePosixPath) -> list[str]:
        found = targets(self._output, self._masks, name)
        for path in found:
            if path.parent not in self._real:
                self._real[path.parent] = os.path.realpath(path.parent)
        return [os.path.join(self._real[path.parent], path.name) for path in found]

    def _take(self, name: PurePosixPath) -> None:
        self._taken.update(path.casefold() for path in self._paths(name))

    def _lies_there(self, path: str) -> bool:
        folder = os.path.dirname(path)
        if folder not in self._listed:
            try:
                self._listed[folder] = {name.casefold() for name in os.listdir(folder)}
            except OSError:  # not there yet
                self._listed[folder] = set()
        return os.path.basename(path).casefold() in self._listed[folder] or os.path.lexists(path)

    def _free(self, name: PurePosixPath) -> bool:
        return not any(
            path.casefold() in self._taken
            or path.casefold() in self._inputs
            or self._lies_there(path)
            for path in self._paths(name)
        )

    def _numbered(self, source: Source) -> Iterator[PurePosixPath]:
        number = 2
        while True:
            yield source.relative.with_name(f"{source.relative.stem}-{number}.png")
            number += 1

    def _first_free(self, candidates: Iterable[PurePosixPath], source: Source) -> PurePosixPath:
        name = next((name for name in candidates if self._free(name)), None)
        if name is None:
            name = next(name for name in self._numbered(source) if self._free(name))
        self._take(name)
        return name

    def another(self, source: Source) -> PurePosixPath:
        """Return a further name, for a file whose own was taken meanwhile."""
        with self._lock:
            return self._first_free(own_names(source), source)

    def give(self, sources: Iterable[Source]) -> dict[Source, PurePosixPath]:
        """``a.jpg`` becomes ``a.png``. Where ``a.jpg`` and ``a.png`` meet, the PNG keeps its name
        and the other becomes ``a.jpg.png``; a number tells apart what is left."""
        names: dict[Source, PurePosixPath] = {}
        groups: dict[str, list[Source]] = defaultdict(list)
        for source in sources:
            groups[str(own_names(source)[0]).casefold()].append(source)
        with self._lock:
            for group in groups.values():
                for source in sorted(group, key=lambda s: s.relative.suffix.lower() != ".png"):
                    is_png = source.relative.suffix.lower() == ".png"
                    plain, full = own_names(source)
                    candidates = [plain, full] if len(group) == 1 or is_png else [full]
                    names[source] = self._first_free(candidates, source)
        return names


def own_names(source: Source) -> tuple[PurePosixPath, PurePosixPath]:
    """Return ``a.png`` and ``a.jpg.png``: the names that an output of ``a.jpg`` has without a
    number."""
    return (
        source.relative.with_suffix(".png"),
        source.relative.with_name(source.relative.name + ".png"),
    )


def output_names(
    sources: Iterable[Source],
    output: Path,
    claimed: Mapping[str, str],
    masks: Path | None = None,
) -> dict[Source, PurePosixPath]:
    """A PNG name below ``output`` for each source; see ``OutputNames``.

    Args:
        claimed: absolute input path to output name of earlier runs; a source keeps its name,
            and no other source takes it.
    """
    sources = list(sources)
    names = OutputNames(output, masks, [source.key for source in sources], claimed.values())
    given = names.give(source for source in sources if source.key not in claimed)
    return {
        source: given[source] if source in given else PurePosixPath(claimed[source.key])
        for source in sources
    }


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
