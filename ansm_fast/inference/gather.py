"""The inputs that a command names: files, patterns, lists, folders and addresses."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from ansm_fast.errors import InputError
from ansm_fast.images.walk import LeftOut
from ansm_fast.inference.files import FileSource, Source, from_files
from ansm_fast.inference.search import from_folder
from ansm_fast.inference.shards import Shard, is_shard
from ansm_fast.inference.stores import LocalStore, Store
from ansm_fast.inference.url_store import UrlStore
from ansm_fast.inference.urls import UrlSource, below_url, is_url, listed_urls, local_path, of_url

_WILD = "*?["


def expand(name: str) -> list[str]:
    """The names that a shell makes of ``{000..009}`` and ``{a,b}``, for those given quoted; a name
    that has none, or that a file has as it stands, is itself.

    Raises:
        InputError: it makes more than a million.
    """
    if os.path.lexists(name):
        return [name]
    match = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{},]*(?:,[^{},]*)+)\}", name)
    if match is None:
        return [name]
    if match[3] is not None:
        parts: Iterable[str] = match[3].split(",")
    else:
        first, last = int(match[1]), int(match[2])
        if abs(last - first) >= 10**6:
            raise InputError(f"{name} makes more than a million names; give a folder or a list")
        width = len(match[1]) if match[1].startswith("0") else 0
        step = 1 if last >= first else -1
        parts = (f"{number:0{width}d}" for number in range(first, last + step, step))
    return [
        made
        for part in parts
        for made in expand(name[: match.start()] + part + name[match.end() :])
    ]


def gather(
    names: Sequence[str],
    batch: str | None,
    output: Store,
    *,
    follow_links: bool = False,
    left_out: LeftOut | None = None,
) -> list[Source]:
    """The files of ``names``, which may be patterns and addresses, or every image below ``batch``.

    Args:
        output: where the outputs go, of which none is an input.
        follow_links, left_out: of a folder; see ``from_folder``.

    Raises:
        InputError: one isn't there, or a pattern matches nothing.
    """
    if batch is not None and (is_shard(batch) or len(expand(batch)) > 1):
        names, batch = [batch], None
    if batch is not None:
        path = local_path(batch) if is_url(batch) else Path(batch)
        if path is None:
            return _shards(below_url(batch, output.root))
        own = output.state if isinstance(output, LocalStore) else None
        try:
            return list(from_folder(path, own, follow_links=follow_links, left_out=left_out))
        except InputError:
            if not (shards := _shards_below(path, own)):
                raise
            return shards
    found: list[Source] = []
    for name in names:
        for one in expand(name):
            found += _named(one)
    return _shards(_each_once(found))


def _shards(sources: Iterable[Source]) -> list[Source]:
    """Tar files among the sources as shards."""
    return [
        Shard(source)
        if isinstance(source, (FileSource, UrlSource)) and is_shard(source.relative.name)
        else source
        for source in sources
    ]


def _shards_below(folder: Path, output: Path | None) -> list[Source]:
    """The tar files of a folder without images, but those below ``output``."""
    excluded = None if output is None else os.path.realpath(output)
    found: list[Source] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(root, name)) != excluded
        )
        for name in sorted(names):
            if is_shard(name) and not name.startswith("."):
                path = Path(root, name)
                relative = PurePosixPath(path.relative_to(folder).as_posix())
                found.append(Shard(FileSource(path, relative)))
    return found


def from_list(name: str, null: bool = False) -> list[Source]:
    """The files of a list, a name a line or, with ``null``, each ended by a NUL; "-" is stdin.

    The tree below the folder that is common to all is kept. A file that isn't there is no error
    here: its reading fails, and the others are done.

    Raises:
        InputError: the list cannot be read, names nothing, or nothing of it is there.
    """
    label = "stdin" if name == "-" else name
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read --list {label}: {error.strerror or error}") from error
    entries = _entries(content, null)
    if not entries:
        raise InputError(f"--list {label} names no file; expected one a line")
    if any("\0" in entry for entry in entries):
        raise InputError(f"--list {label} separates names by NUL; add -0")
    found: list[Source] = []
    paths = [Path(entry) for entry in entries if not is_url(entry)]
    if paths and not any(os.path.lexists(path) for path in paths) and len(paths) == len(entries):
        raise InputError(
            f"no file of --list {label} is there (first: {str(paths[0])[:200]!r}); names count "
            "from the current folder"
        )
    found += _with_common_tree(paths)
    urls = [entry for entry in entries if is_url(entry)]
    found += _with_common_tree(path for url in urls if (path := local_path(url)) is not None)
    if far := [url for url in urls if local_path(url) is None]:
        found += listed_urls(far)
    return _shards(_each_once(found))


def _entries(content: bytes, null: bool) -> list[str]:
    if null:
        return [os.fsdecode(entry) for entry in content.split(b"\0") if entry]
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    kept = [line for line in lines if line.strip()]
    if kept and all(line.endswith(b"\r") for line in kept[:-1] or kept):
        kept = [line.removesuffix(b"\r") for line in kept]
    return [os.fsdecode(line) for line in kept]


def _with_common_tree(paths: Iterable[Path]) -> list[FileSource]:
    absolute = [Path(os.path.abspath(path)) for path in paths]
    if not absolute:
        return []
    common = os.path.commonpath([path.parent for path in absolute])
    return [
        FileSource(path, PurePosixPath(path.relative_to(common).as_posix())) for path in absolute
    ]


def _named(name: str) -> Sequence[Source]:
    if is_url(name):
        path = local_path(name)
        return of_url(name) if path is None else _named(str(path))
    if os.path.lexists(name) or not any(letter in name for letter in _WILD):
        return from_files([Path(name)])
    found = sorted(path for path in glob.glob(name, recursive=True) if not os.path.isdir(path))
    if not found:
        raise InputError(f"no file matches {name}; check the pattern, and quote it")
    base = name[: min(name.index(letter) for letter in _WILD if letter in name)]
    folder = os.path.abspath(os.path.dirname(base) or ".")
    return [
        FileSource(Path(path), PurePosixPath(Path(os.path.relpath(path, folder)).as_posix()))
        for path in found
    ]


def _each_once(sources: Iterable[Source]) -> list[Source]:
    unique: dict[str, Source] = {}
    for source in sources:
        unique.setdefault(source.key, source)
    return list(unique.values())


def store_of(name: str, option: str, sync: bool = False) -> Store:
    """Where the outputs of ``option`` go: a folder, or an address of fsspec.

    Raises:
        InputError: an address of which nothing is known, or that cannot be written to.
    """
    path = local_path(name) if is_url(name) else Path(name)
    return UrlStore(name, option) if path is None else LocalStore(path, sync)


def beside(name: str, ending: str) -> str:
    """The name of a folder or address with an ending."""
    if is_url(name) and local_path(name) is None:
        return name.rstrip("/") + ending
    path = local_path(name) if is_url(name) else None
    path = Path(name) if path is None else path
    real = Path(os.path.realpath(path))
    return str((path if path.name not in ("", "..") else real).with_name(real.name + ending))


def is_local(one: Source | Store) -> bool:
    """Whether a source or store is of this machine."""
    return isinstance(one, (FileSource, LocalStore)) or (isinstance(one, Shard) and one.is_local)
