"""JSON lines: one object a line, appended whole; a line that a kill cut short is passed over."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Record = dict[str, Any]

# What some reader of lines takes for the end of one, and bytes of a file's name that are no UTF-8:
# JSON has a notation for them, in which each record stays one line of valid UTF-8.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def line_of(record: Mapping[str, Any], *, readable: bool = True) -> str:
    """One line of JSON, without its end.

    Args:
        readable: keep letters as they are instead of JSON's escapes.
    """
    text = json.dumps(record, ensure_ascii=not readable)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


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
    was killed, it is the cut end of the file, which the next one begins a line after. What a full
    disk cut short is taken back.

    Args:
        path: its folder must exist.
        readable: keep letters as they are instead of JSON's escapes.
        new: the file must not be there.
        sync: wait at each record until the disk has it.

    Raises:
        OSError: it cannot be opened or, by ``add``, written.
    """

    def __init__(
        self, path: Path, *, readable: bool = False, new: bool = False, sync: bool = False
    ) -> None:
        self._file = path.open("x+b" if new else "a+b", buffering=0)
        self._path, self._readable, self._sync = path, readable, sync
        self._lock, self._begun = threading.Lock(), False

    def fileno(self) -> int:
        return self._file.fileno()

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one record and hand it to the operating system at once."""
        content = (line_of(record, readable=self._readable) + "\n").encode()
        with self._lock:
            end = self._file.seek(0, os.SEEK_END)
            if not self._begun and end:
                self._file.seek(-1, os.SEEK_END)
                content = content if self._file.read(1) == b"\n" else b"\n" + content
            written = 0
            try:
                while written < len(content):  # a write may stop short of a full disk
                    written += self._file.write(content[written:])
                if self._sync:
                    os.fsync(self._file)
            except OSError as error:
                self._begun = False
                with contextlib.suppress(OSError):
                    # Another process may have appended since, and found more room.
                    if written < len(content) and os.fstat(self.fileno()).st_size == end + written:
                        self._file.truncate(end)
                error.filename = str(self._path)
                raise
            self._begun = True

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def __enter__(self) -> Appender:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
