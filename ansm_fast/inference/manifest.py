"""The manifest: one JSON line per input, appended as results come; a rerun resumes from it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path

from ansm_fast.errors import InputError
from ansm_fast.images.regular_files import NotAFile, check_regular
from ansm_fast.inference.files import Source, safe_output_name, targets
from ansm_fast.inference.journal import Journal
from ansm_fast.inference.stores import Place, Store, as_store
from ansm_fast.json_lines import Appender, Record, parse

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

NAME = "manifest.jsonl"
DONE, FAILED = "done", "failed"
# What a record says of the files of an input, in the order of ``files.targets``.
PARTS = ("output", "mask_before", "mask_after")
_BEGINNING = '{"input": '


def checksum(content: bytes) -> str:
    """SHA-256, as ``sha256sum`` prints it."""
    return hashlib.sha256(content).hexdigest()


class Manifest:
    """Append-only, safe to call from several threads; the last line about an input counts.

    It knows the files that it claims by their content: what has another one isn't this program's.
    """

    def __init__(self, output: Path | Store, masks: Path | Store | None = None) -> None:
        self._output, self._masks = as_store(output), None if masks is None else as_store(masks)
        self.path = self._output.state / NAME
        self.records: dict[str, Record] = {}
        self._claims: dict[str, Record] = {}  # by input: the last output it had
        self._owners: dict[str, str] = {}  # by output: the input
        self._contents: dict[str, set[str]] = {}  # by address: checksums
        self._lock = threading.Lock()
        try:
            with contextlib.suppress(FileNotFoundError):
                check_regular(self.path)
            self._file = Appender(self.path, readable=True)
            self._hold()
            self._read()
            self.journal = Journal(self._output, self._masks)
        except NotAFile as error:
            raise InputError(
                f"cannot use {self.path}: it is {error}; give another folder to -o"
            ) from error
        except OSError as error:
            raise InputError(
                f"cannot use {self.path}: {error.strerror or error}; give another folder to -o"
            ) from error
        for record in self.journal.begun:
            self._claim(record)

    def _hold(self) -> None:
        """See that no other run writes to this folder; the system lets go when this one ends."""
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise InputError(
                f"another run is writing to {self.path.parent}; wait until it ends, or give "
                "another folder to -o"
            ) from error
        except OSError:  # a file system without locks
            return

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8", errors="surrogateescape")
        records = [record for record in parse(text) if isinstance(record.get("input"), str)]
        if text.strip() and not any(one.get("status") in (DONE, FAILED) for one in records):
            cut = not records and "\n" not in text  # all that a run left that was killed at once
            if not cut or not (text.startswith(_BEGINNING) or _BEGINNING.startswith(text)):
                self._file.close()
                raise InputError(
                    f"{self.path} is another program's file, which nothing is written to; "
                    "give another folder to -o"
                )
        for record in records:
            self.records[record["input"]] = record
            if record.get("status") == DONE:
                self._claim(record)

    def _claim(self, record: Record) -> None:
        name = safe_output_name(record)
        if name is None:
            return
        former = self._owners.get(name)
        if former is not None and former != record["input"]:
            self._claims.pop(former, None)
        self._owners[name] = record["input"]
        self._claims[record["input"]] = record
        same = self._masks is not None and record.get("masks") == self._masks.root
        for part, place in zip(
            PARTS, targets(self._output, self._masks if same else None, name), strict=False
        ):
            if isinstance(found := record.get(f"{part}_sha256"), str):
                self._contents.setdefault(place.address, set()).add(found)

    def claimed(self) -> dict[str, str]:
        """Input to output name, of every output that was written."""
        return {source: record["output"] for source, record in self._claims.items()}

    def moved(self) -> dict[tuple[int, int], str]:
        """Output name by size and modification time of the input, for inputs that are gone."""
        return {
            (record["input_bytes"], record["input_mtime_ns"]): record["output"]
            for source, record in self._claims.items()
            if {"input_bytes", "input_mtime_ns"} <= record.keys() and not os.path.exists(source)
        }

    def may_be_own(self, place: Place) -> bool:
        """Tell whether ``place`` is a file, no link, of which content was recorded; it isn't
        read."""
        return place.address in self._contents and place.may_be_read()

    def is_own(self, place: Place) -> bool:
        """Whether the file at ``place`` holds the very content that was recorded of it. What a
        version of this program wrote that recorded no checksum is not known to."""
        return self.may_be_own(place) and place.checksum() in self._contents[place.address]

    def is_done(self, source: Source, wanted: Record, needed: list[Place]) -> bool:
        """Whether the last line about ``source`` says done, agrees with ``wanted`` in every field,
        the input has not changed, and every file of ``needed``, the output first, is still there
        in the size that was recorded."""
        record = self.records.get(source.key)
        if record is None or record.get("status") != DONE or safe_output_name(record) is None:
            return False
        try:
            expected = wanted | source.identity()
        except OSError:
            return False
        if any(record.get(key) != value for key, value in expected.items()):
            return False
        for part, place in zip(PARTS, needed, strict=False):
            size = place.size()
            if size is None or size != record.get(f"{part}_bytes", size):
                return False
        return True

    def add(self, record: Record) -> None:
        """Append one line and hand it to the operating system at once."""
        with self._lock:
            self.records[record["input"]] = record
        self._file.add(record)

    def close(self) -> None:
        self._file.close()
        self.journal.close()
