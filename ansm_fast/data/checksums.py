"""SHA256SUMS of a folder, as ``sha256sum -c`` reads it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ansm_fast.data.atomic import write_text
from ansm_fast.errors import InputError

CHECKSUMS = "SHA256SUMS"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name != CHECKSUMS and not path.name.startswith(".")
    )


def write_checksums(folder: str | Path) -> Path:
    """Write ``folder/SHA256SUMS`` over every other file below it that is not hidden.

    Raises:
        OSError: a file cannot be read, or the folder cannot be written to.
    """
    folder = Path(folder)
    lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}" for path in _files(folder)]
    write_text(folder / CHECKSUMS, "\n".join(lines) + "\n")
    return folder / CHECKSUMS


def verify_checksums(folder: str | Path) -> int:
    """Check every file that ``folder/SHA256SUMS`` names; returns how many there are.

    Raises:
        InputError: there is no such list, it is damaged, a file is missing or altered, or there is
            one that it doesn't name.
    """
    folder = Path(folder)
    listing = folder / CHECKSUMS
    if not listing.is_file():
        raise InputError(
            f"no {CHECKSUMS} in {folder}; give a set that `ansm-fast attack` completed"
        )
    expected: dict[str, str] = {}
    for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, gap, name = line.partition("  ")
        if len(digest) != 64 or not gap or not name:
            raise InputError(f"{listing} is damaged at {line[:80]!r}; make or copy the set again")
        expected[name] = digest
    wrong = [
        name
        for name, digest in expected.items()
        if not (folder / name).is_file() or _digest(folder / name) != digest
    ]
    wrong += [
        name
        for name in (path.relative_to(folder).as_posix() for path in _files(folder))
        if name not in expected
    ]
    if wrong:
        raise InputError(
            f"{len(wrong)} files of {folder} are missing, altered or not in {CHECKSUMS} "
            f"(first: {wrong[0]}); make or copy the set again"
        )
    return len(expected)
