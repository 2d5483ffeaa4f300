"""JSON lines: one object a line, appended whole; a line that a kill cut short is passed over."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def parse(text: str, on_damage: Callable[[int], None] | None = None) -> Iterator[Record]:
    """The objects of a text, in order.

    A last line without its end that is no object was cut short by a kill and is passed over. So is
    any other line that is none, after ``on_damage`` was called with its number (from 1).
    """
    lines = text.split("\n")  # a file's name may hold any other separator
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict):
            yield record
        elif on_damage is not None and number < len(lines):
            on_damage(number)


def read(path: Path, on_damage: Callable[[int], None] | None = None) -> list[Record]:
    """``parse`` of a file; nothing if it isn't there. Bytes that are no UTF-8 damage their line."""
    if not path.exists():
        return []
    return list(parse(path.read_text(encoding="utf-8", errors="replace"), on_damage))


def text_of(records: Iterable[Mapping[str, Any]]) -> str:
    """The text that ``parse`` reads."""
    return "".join(f"{json.dumps(record)}\n" for record in records)


class Appender:
    """Appends records to a file; safe to call from several threads.

    Each record is one write to a file opened for appending: it is there whole, or, if the machine
    was killed or the disk is full, it is the cut end of the file, which the next one begins a line
    after.

    Args:
        path: its folder must exist.
        readable: keep letters and names as they are instead of JSON's escapes.
        new: the file must not be there.

    Raises:
        OSError: it cannot be opened or, by ``add``, written.
    """

    def __init__(self, path: Path, *, readable: bool = False, new: bool = False) -> None:
        self._file = path.open("x+b" if new else "a+b", buffering=0)
        self._readable, self._lock, self._begun = readable, threading.Lock(), False

    def fileno(self) -> int:
        return self._file.fileno()

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one record and hand it to the operating system at once."""
        line = json.dumps(record, ensure_ascii=not self._readable) + "\n"
        content = line.encode("utf-8", errors="surrogateescape")
        with self._lock:
            if not self._begun and self._file.seek(0, os.SEEK_END):
                self._file.seek(-1, os.SEEK_END)
                content = content if self._file.read(1) == b"\n" else b"\n" + content
            self._begun = True
            while content:  # a write may stop short of a full disk
                content = content[self._file.write(content) :]

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def __enter__(self) -> Appender:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
