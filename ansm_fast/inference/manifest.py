"""The manifest: one JSON line per input, appended as results come; a rerun resumes from it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from ansm_fast.errors import InputError

NAME = "manifest.jsonl"
DONE, FAILED = "done", "failed"

Record = dict[str, Any]


def identity(path: Path) -> Record:
    """Size and modification time: what tells that an input is still the same."""
    status = path.stat()
    return {"input_bytes": status.st_size, "input_mtime_ns": status.st_mtime_ns}


class Manifest:
    """Append-only, safe to call from several threads; the last line about an input counts.

    Lines that are cut short, as a killed run leaves them, are passed over.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.records: dict[str, Record] = {}
        self._lock = threading.Lock()
        try:
            self._read()
            self._file = self.path.open("a", encoding="utf-8")
            if self._cut:
                self._file.write("\n")
        except OSError as error:
            raise InputError(
                f"cannot use {self.path}: {error.strerror or error}; give another folder to -o"
            ) from error

    def _read(self) -> None:
        self._cut = False
        if not self.path.exists():
            return
        text = self.path.read_text(encoding="utf-8", errors="replace")
        self._cut = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and isinstance(record.get("input"), str):
                self.records[record["input"]] = record

    def claimed(self) -> dict[str, str]:
        """Output names in use by inputs that still exist."""
        return {
            source: record["output"]
            for source, record in self.records.items()
            if record.get("status") == DONE
            and isinstance(record.get("output"), str)
            and Path(source).exists()
        }

    def is_done(self, source: Path, wanted: Record, needed: list[Path]) -> bool:
        """Whether the last line about ``source`` says done, agrees with ``wanted`` in every field,
        the input has not changed, and every file of ``needed`` is still there."""
        record = self.records.get(str(source.resolve()))
        if record is None or record.get("status") != DONE:
            return False
        try:
            expected = wanted | identity(source)
        except OSError:
            return False
        return all(record.get(key) == value for key, value in expected.items()) and all(
            path.is_file() for path in needed
        )

    def add(self, record: Record) -> None:
        """Append one line and hand it to the operating system at once."""
        line = json.dumps(record, ensure_ascii=False) + "\n"
        with self._lock:
            self.records[record["input"]] = record
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        with self._lock:
            self._file.close()
