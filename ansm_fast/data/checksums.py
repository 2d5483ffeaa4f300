"""SHA256SUMS of a folder, as ``sha256sum -c`` reads it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ansm_fast.errors import InputError
from ansm_fast.images.atomic import write_text

CHECKSUMS = "SHA256SUMS"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    """All but the list itself and what a killed run left under a temporary name."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name != CHECKSUMS and not path.match(".*.tmp")
    )


def _line(digest: str, name: str) -> str:
    """A name that would break the line is escaped, and a backslash in front says so."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{digest}  {name}" if escaped == name else f"\\{digest}  {escaped}"


def _read(line: str) -> tuple[str, str] | None:
    """Digest and name of a line, None if it is none."""
    escaped = line.startswith("\\")
    digest, gap, name = line[escaped:].partition("  ")
    if len(digest) != 64 or not gap or not name:
        return None
    if escaped:
        meant = {"n": "\n", "r": "\r", "\\": "\\"}
        name = re.sub(r"\\([nr\\])", lambda found: meant[found[1]], name)
    return digest, name


def write_checksums(folder: str | Path) -> Path:
    """Write ``folder/SHA256SUMS`` over every other file below it.

    Raises:
        OSError: a file cannot be read, or the folder cannot be written to.
    """
    folder = Path(folder)
    lines = [_line(_digest(path), path.relative_to(folder).as_posix()) for path in _files(folder)]
    write_text(folder / CHECKSUMS, "".join(f"{line}\n" for line in lines))
    return folder / CHECKSUMS


def listed(folder: str | Path) -> dict[str, str] | None:
    """Digests by name, as ``folder/SHA256SUMS`` has them; None if there is none.

    Raises:
        InputError: it is damaged.
    """
    listing = Path(folder) / CHECKSUMS
    if not listing.is_file():
        return None
    expected: dict[str, str] = {}
    text = listing.read_text(encoding="utf-8", errors="surrogateescape")
    for line in text.removesuffix("\n").split("\n"):
        entry = _read(line)
        if entry is None or entry[1].startswith("/") or ".." in entry[1].split("/"):
            raise InputError(f"{listing} is damaged at {line[:80]!r}; make or copy the set again")
        expected[entry[1]] = entry[0]
    return expected


def verify_checksums(folder: str | Path) -> int:
    """Check every file that ``folder/SHA256SUMS`` names; returns how many there are.

    Raises:
        InputError: there is no such list, it is damaged, a file is missing or altered, or there is
            one that it doesn't name.
    """
    folder = Path(folder)
    expected = listed(folder)
    if expected is None:
        raise InputError(
            f"no {CHECKSUMS} in {folder}; give a set that `ansm-fast attack` completed"
        )
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
