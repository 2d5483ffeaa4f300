"""Which files to defend, and the name of each output."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
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


def from_folder(folder: Path, output: Path) -> list[Source]:
    """Every image below ``folder``, sorted; hidden files and ``output`` itself are left out.

    Raises:
        InputError: no such folder, no image in it, or ``output`` is the folder itself.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}; give an existing folder to --batch")
    if output.resolve() == folder.resolve():
        raise InputError(f"output {output} is the input folder; give another folder to -o")
    excluded = output.resolve()
    found: list[Source] = []
    for root, folders, names in os.walk(folder):
        base = Path(root)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (base / name).resolve() != excluded
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
    """The named files, each once; InputError if one does not exist."""
    unique: dict[Path, Source] = {}
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path} is a folder; give it to --batch")
        if not path.exists():
            raise InputError(f"no such file: {path}; check the name")
        unique.setdefault(path.resolve(), Source(path, PurePosixPath(path.name)))
    return list(unique.values())


def output_names(
    sources: Iterable[Source], output: Path, claimed: Mapping[str, str]
) -> dict[Source, PurePosixPath]:
    """A PNG name below ``output`` for each source; no two alike, none an input's own path.

    ``a.jpg`` becomes ``a.png``. Where ``a.jpg`` and ``a.png`` meet, the PNG keeps its name and the
    other becomes ``a.jpg.png``; a number tells apart what is left. Names are compared without
    regard to case, for file systems that do the same.

    Args:
        claimed: absolute input path to output name of earlier runs; a source keeps its name,
            and no other source takes it.
    """
    sources = list(sources)
    inputs = {str(source.path.resolve()).casefold() for source in sources}
    root = output.resolve()
    taken = {name.casefold() for name in claimed.values()}
    names: dict[Source, PurePosixPath] = {}
    groups: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        earlier = claimed.get(str(source.path.resolve()))
        if earlier is not None:
            names[source] = PurePosixPath(earlier)
        else:
            groups[str(source.relative.with_suffix(".png")).casefold()].append(source)

    def free(name: PurePosixPath) -> bool:
        return str(name).casefold() not in taken and str(root / name).casefold() not in inputs

    for group in groups.values():
        for source in sorted(group, key=lambda s: s.relative.suffix.lower() != ".png"):
            plain = source.relative.with_suffix(".png")
            full = source.relative.with_name(source.relative.name + ".png")
            is_png = source.relative.suffix.lower() == ".png"
            candidates = [plain, full] if len(group) == 1 or is_png else [full]
            name = next((name for name in candidates if free(name)), None)
            number = 2
            while name is None:
                numbered = plain.with_name(f"{plain.stem}-{number}.png")
                name, number = (numbered if free(numbered) else None), number + 1
            taken.add(str(name).casefold())
            names[source] = name
    return {source: names[source] for source in sources}


def prepare_folder(folder: Path, option: str) -> None:
    """Make ``folder`` and see that files can be made in it; InputError if not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".ansm-fast-{os.getpid()}.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"cannot write to {folder}: {error.strerror or error}; "
            f"give a writable folder to {option}"
        ) from error
