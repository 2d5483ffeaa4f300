"""Large attacked sets as WebDataset shards: tar files of image, mask and record, read in order.

A sample's key is its position; the image's own name, which may hold dots and slashes, stands in its
record. Folder and shards are turned into each other without loss: files are copied as they are.

Files are opened here and handed to webdataset as streams: it takes a name for an address of many
kinds, and would run the rest of one that begins with ``pipe:`` in a shell, as a file's name may.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ansm_fast.data.atomic import write_bytes, write_text
from ansm_fast.data.checksums import CHECKSUMS, listed, write_checksums
from ansm_fast.data.files import NotAFile, check_regular
from ansm_fast.data.universal_tile import TILE_FILE
from ansm_fast.errors import InputError

_DOCUMENTS = ("attack.json", "README.md", TILE_FILE)


def _webdataset() -> Any:
    try:
        import webdataset
    except ImportError as error:
        raise InputError(
            "shards need the library webdataset; install it with pip install 'ansm-fast[datasets]'"
        ) from error
    return webdataset


def _record(text: str | bytes, origin: Path) -> dict[str, Any]:
    """The record of a sample, whose name is a path below the folder that it is put into.

    Raises:
        InputError: it is none, or its name leads elsewhere.
    """
    try:
        record = json.loads(text)
        name = record["name"]
        path = PurePosixPath(name)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{origin} holds a record that is cut short or damaged; give the command that made "
            "the set again"
        ) from error
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise InputError(f"{origin} holds the name {name!r}, which is none below a folder")
    return record


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write to {error.filename or out} ({error.strerror or error}); make room, "
            f"remove {out} and give the same command, or give another output folder"
        ) from error


def pack(
    folder: str | Path,
    out: str | Path,
    samples: int = 1000,
    on_progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Write ``out/000000.tar`` and so on, ``samples`` images each, and the set's documents.

    Raises:
        InputError: ``folder`` is no complete attacked set, ``out`` holds other files or cannot be
            written to, or the library webdataset is missing.
    """
    folder, out, report = Path(folder), Path(out), on_progress or (lambda done: None)
    library = _webdataset()
    metadata = folder / "metadata.jsonl"
    if not metadata.is_file():
        raise InputError(f"no metadata.jsonl in {folder}; give a set made by `ansm-fast attack`")
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; give another output folder")
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
        opened: list[BinaryIO] = []

        def opener(name: str) -> BinaryIO:
            opened.append((out / name).open("wb"))
            return opened[-1]

        with library.ShardWriter(
            "%06d.tar",
            maxcount=samples,
            verbose=0,
            opener=opener,
            post=lambda name: opened[-1].close(),
        ) as writer:
            for index, line in enumerate(metadata.read_bytes().splitlines()):
                record = _record(line, metadata)
                parts = {
                    f"{part}.png": folder / f"{part}s" / f"{record['name']}.png"
                    for part in ("image", "mask")
                }
                missing = [path for path in parts.values() if not path.is_file()]
                if missing:
                    raise InputError(
                        f"{missing[0]} is missing; give the command that made it again"
                    )
                contents = {part: path.read_bytes() for part, path in parts.items()}
                writer.write({"__key__": f"{index:09d}", "json": record, **contents})
                report(1)
        for name in _DOCUMENTS:
            if (folder / name).is_file():
                write_bytes(out / name, (folder / name).read_bytes())
        write_checksums(out)
    return sorted(out.glob("*.tar"))


def read_shards(folder: str | Path) -> Iterator[dict[str, Any]]:
    """Samples of all shards in order: ``record``, ``image`` and ``mask``, the latter PNG bytes.

    Raises:
        InputError: no shard, one that is cut short, a sample without one of its parts, or no
            library webdataset.
    """
    shards = sorted(Path(folder).glob("*.tar"))
    if not shards:
        raise InputError(f"no shard in {folder}; give a folder that `ansm-fast data pack` wrote")
    for shard in shards:
        try:
            check_regular(shard)
        except NotAFile as error:  # which might be waited for in vain
            raise InputError(f"{shard} is {error} and no shard; take it away") from error
    iterators = _webdataset().tariterators

    def streams() -> Iterator[dict[str, Any]]:
        for shard in shards:
            with shard.open("rb") as stream:
                yield {"url": shard.name, "stream": stream}

    samples = iterators.group_by_keys(iterators.tar_file_expander(streams()))
    while True:
        try:
            sample = next(samples, None)
        except (tarfile.TarError, EOFError, ValueError, OSError) as error:
            raise InputError(
                f"{folder} holds a damaged shard ({error.args[0]}); pack the set again"
            ) from error
        if sample is None:
            return
        missing = [part for part in ("json", "image.png", "mask.png") if part not in sample]
        if missing:
            raise InputError(
                f"sample {sample['__key__']} of {folder} has no {missing[0]}; pack the set again"
            )
        yield {
            "record": _record(sample["json"], Path(folder)),
            "image": sample["image.png"],
            "mask": sample["mask.png"],
        }


def unpack(
    folder: str | Path, out: str | Path, on_progress: Callable[[int], None] | None = None
) -> int:
    """Write shards as a folder that ``FolderDataset`` reads; returns the number of images.

    Raises:
        InputError: see ``read_shards``; or ``out`` holds other files or cannot be written to.
    """
    folder, out, report = Path(folder), Path(out), on_progress or (lambda done: None)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; give another output folder")
    absent = [name for name in listed(folder) or () if not (folder / name).is_file()]
    if absent:
        raise InputError(
            f"{len(absent)} files that {folder / CHECKSUMS} names are missing (first: "
            f"{absent[0]}); copy them as well, or remove {CHECKSUMS} to unpack what is there"
        )
    lines: list[str] = []
    with _writing(out):
        for sample in read_shards(folder):
            for part in ("image", "mask"):
                path = out / f"{part}s" / f"{sample['record']['name']}.png"
                if path.exists():
                    raise InputError(f"{folder} holds two samples named {path.stem}; pack it again")
                path.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(path, sample[part])
            lines.append(json.dumps(sample["record"]) + "\n")
            report(1)
        write_text(out / "metadata.jsonl", "".join(lines))
        for name in _DOCUMENTS:
            if (folder / name).is_file():
                write_bytes(out / name, (folder / name).read_bytes())
        write_checksums(out)
    return len(lines)
