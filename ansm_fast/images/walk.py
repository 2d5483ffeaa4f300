"""The files below a folder, in a fixed order; what was passed over is told.

No link leads round in circles, and no folder that cannot be opened ends the search.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

_SHOWN = 3
HIDDEN = "hidden"
LINKED_FOLDER = "a linked folder; --follow-links takes it along"
LINKED_AGAIN = "a link to a folder that is searched anyway"
UNREADABLE_FOLDER = "cannot be opened"


class LeftOut:
    """What a search passed over: by reason how many, and the first of them."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._first: dict[str, list[str]] = {}

    def add(self, reason: str, path: Path) -> None:
        self._counts[reason] = self._counts.get(reason, 0) + 1
        first = self._first.setdefault(reason, [])
        if len(first) < _SHOWN:
            first.append(str(path))

    def __len__(self) -> int:
        return sum(self._counts.values())

    def has_unreadable(self) -> bool:
        """Whether there may be images that nobody could see."""
        return any(reason.startswith(UNREADABLE_FOLDER) for reason in self._counts)

    def as_list(self) -> list[dict[str, Any]]:
        """``reason``, ``count`` and ``first`` (at most three paths) of each kind."""
        return [
            {"reason": reason, "count": count, "first": self._first[reason]}
            for reason, count in self._counts.items()
        ]

    def lines(self) -> list[str]:
        """E.g. "left out: photos/.a.png and 2 more (hidden)"."""
        return [
            f"left out: {self._first[reason][0]}"
            f"{f' and {count - 1} more' if count > 1 else ''} ({reason})"
            for reason, count in self._counts.items()
        ]


def walk(
    folder: Path,
    left_out: LeftOut,
    *,
    follow_links: bool = False,
    skip: Callable[[Path], str | None] = lambda path: None,
    tell: Callable[[Path], bool] = lambda path: True,
) -> Iterator[tuple[Path, PurePosixPath]]:
    """Yield each entry below ``folder`` that is no folder, of whatever kind, and its place there;
    files of a folder before its folders, each sorted by name.

    Args:
        left_out: gets folders that are hidden, linked, skipped or cannot be opened, and hidden
            files.
        follow_links: enter linked folders, each folder once, after those that are none.
        skip: gives a reason to pass over a folder, or None.
        tell: whether a hidden file is worth telling.
    """
    entered: set[tuple[int, int]] = set()
    linked: list[tuple[Path, PurePosixPath]] = []
    yield from _below(folder, PurePosixPath(), left_out, entered, linked, skip, tell)
    for path, place in linked:  # grows while links are followed
        if not follow_links:
            left_out.add(LINKED_FOLDER, path)
        elif reason := skip(path):
            left_out.add(reason, path)
        elif _number(path) in entered:
            left_out.add(LINKED_AGAIN, path)
        else:
            yield from _below(path, place, left_out, entered, linked, skip, tell)


def _number(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _below(
    folder: Path,
    place: PurePosixPath,
    left_out: LeftOut,
    entered: set[tuple[int, int]],
    linked: list[tuple[Path, PurePosixPath]],
    skip: Callable[[Path], str | None],
    tell: Callable[[Path], bool],
) -> Iterator[tuple[Path, PurePosixPath]]:
    waiting = [(folder, place)]
    while waiting:
        folder, place = waiting.pop()
        if (number := _number(folder)) is not None:
            entered.add(number)
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            left_out.add(f"{UNREADABLE_FOLDER}: {error.strerror or error}", folder)
            continue
        below: list[tuple[Path, PurePosixPath]] = []
        for entry in entries:
            path, inner = folder / entry.name, place / entry.name
            if _is_folder(entry):
                if entry.name.startswith("."):
                    left_out.add(HIDDEN, path)
                elif entry.is_symlink():
                    linked.append((path, inner))
                elif reason := skip(path):
                    left_out.add(reason, path)
                else:
                    below.append((path, inner))
            elif not entry.name.startswith("."):
                yield path, inner
            elif tell(path):
                left_out.add(HIDDEN, path)
        waiting += reversed(below)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or leads to one; a link to itself leads nowhere."""
    try:
        return entry.is_dir()
    except OSError:
        return False
