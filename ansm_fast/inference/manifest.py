"""The manifest: one JSON line per input, appended as results come; a rerun resumes from it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path, PurePath

from ansm_fast.errors import InputError
from ansm_fast.images.regular_files import NotAFile, check_regular
from ansm_fast.inference.files import Source, safe_output_name, targets
from ansm_fast.inference.form import Form, asked_of
from ansm_fast.inference.journal import Journal
from ansm_fast.inference.mask_pointer import leave_pointer
from ansm_fast.inference.stores import MANIFEST, LocalStore, Place, Store, as_store
from ansm_fast.json_lines import Appender, Record, parse

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

DONE, FAILED = "done", "failed"
SKIPPED = "skipped"  # in progress and summary: the manifest says "done" of these
# What a record says of the files of an input, in the order of ``files.targets``.
PARTS = ("output", "mask_before", "mask_after")
_BEGINNING = '{"input": '


# Seconds within which two writes to a file may get one modification time, on a file system whose
# clock is coarse.
_COARSE = 2.0


def mask_roots(output: Store, masks: Store | None) -> tuple[str, ...]:
    """How a record may call the folder of the masks: as seen from that of the outputs, so that both
    can be moved, or, as earlier versions did, by its whole name."""
    if masks is None:
        return ()
    if not (isinstance(output, LocalStore) and isinstance(masks, LocalStore)):
        return (masks.root,)
    try:
        return (PurePath(os.path.relpath(masks.root, output.root)).as_posix(), masks.root)
    except ValueError:  # on another drive
        return (masks.root,)


def _is_as_found(record: Record, found: Record) -> bool:
    """Whether size and modification time are those of the record, and prove it: not where the input
    was that new when it was read that a later change may have left both as they were."""
    if any(record.get(key) != value for key, value in found.items()):
        return False
    try:
        return bool(record["input_mtime_ns"] / 1e9 < record["input_read_at"] - _COARSE)
    except (KeyError, TypeError):  # of an earlier version, or without such times
        return True


def is_same_content(
    record: Record, found: Record, output: Store, masks: Store | None, *, verify: bool
) -> bool:
    """Whether a record is of an input as ``reading.read_source`` found it; with ``verify`` also
    whether its files hold what was recorded of them."""
    name = safe_output_name(record)
    if name is None or record.get("input_sha256", found["input_sha256"]) != found["input_sha256"]:
        return False
    places = targets(output, masks, name) if verify else []
    return all(
        place.checksum() == record.get(f"{part}_sha256")
        for part, place in zip(PARTS, places, strict=False)
    )


def common_fields(
    fingerprint: str,
    form: Form,
    output: Store,
    masks: Store | None,
    localizer_fingerprint: str,
) -> Record:
    """What holds of all the lines of a run, and must agree for a later run to skip an input."""
    common: Record = {"fingerprint": fingerprint, **form.asked()}
    if masks is not None:
        common["localizer_fingerprint"] = localizer_fingerprint
        common["masks"] = mask_roots(output, masks)[0]
    return common


def record_of(
    source: Source,
    status: str,
    common: Record,
    found: Record,
    details: Record,
    seconds: float,
    said: Sequence[str] = (),
) -> Record:
    """The line about an input.

    Args:
        common: what holds of the whole run.
        found: the input's identity when it was read; {} if it was not.
        details: of its output, or its error.
        seconds: between the beginning of its reading and now.
        said: by libraries.
    """
    record: Record = {"input": source.key, "status": status, **common}
    record["relative"] = str(source.relative)
    if not found:
        with contextlib.suppress(OSError):
            found = source.identity()
    record |= found | details
    if said:
        record["warnings"] = list(said)
    return record | {"seconds": round(seconds, 4), "written_at": round(time.time(), 3)}


class Manifest:
    """Append-only, safe to call from several threads; the last line about an input counts.

    It knows the files that it claims by their content: what has another one isn't this program's.

    A record's ``input`` is the input's key, and ``relative`` its place below the input folder, by
    which a tree that was moved or copied is known again.

    Args:
        sync: wait at each line until the disk has it.
    """

    def __init__(
        self, output: Path | Store, masks: Path | Store | None = None, *, sync: bool = False
    ) -> None:
        self._output, self._masks = as_store(output), None if masks is None else as_store(masks)
        self.path = self._output.state / MANIFEST
        self.records: dict[str, Record] = {}
        self._claims: dict[str, Record] = {}  # by input: the last output it had
        self._owners: dict[str, str] = {}  # by output: the input
        self._contents: dict[str, set[str]] = {}  # by address: checksums
        self._places: dict[str, str] = {}  # by place below the input folder: the last input
        self._mask_roots = mask_roots(self._output, self._masks)
        self._lock = threading.Lock()
        self._output.begin()
        try:
            self._open(sync)
        except BaseException:
            self._output.end(failed=True)
            raise

    def _open(self, sync: bool) -> None:
        try:
            with contextlib.suppress(FileNotFoundError):
                check_regular(self.path)
            self._file = Appender(self.path, readable=True, sync=sync)
            self._hold()
            self._read()
            self.journal = Journal(self._output, self._masks, sync=sync)
            self._point_from_masks()
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
        for record in self.journal.finished:
            self._claim(record)
            known = self.records.get(record["input"], {})
            if known.get("written_at", 0.0) < record.get("written_at", 0.0):
                self.add(record)

    def _point_from_masks(self) -> None:
        if isinstance(self._output, LocalStore) and isinstance(self._masks, LocalStore):
            leave_pointer(self._masks.state, self.path)

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
        if isinstance(relative := record.get("relative"), str):
            self._places[relative] = record["input"]
        same = self._masks is not None and record.get("masks") in self._mask_roots
        for part, place in zip(
            PARTS, targets(self._output, self._masks if same else None, name), strict=False
        ):
            if isinstance(found := record.get(f"{part}_sha256"), str):
                self._contents.setdefault(place.address, set()).add(found)

    def claimed(self) -> dict[str, str]:
        """Input to output name, of every output that was written."""
        return {source: record["output"] for source, record in self._claims.items()}

    def owner(self, name: str) -> str | None:
        """The input whose output had this name last."""
        return self._owners.get(name)

    def format_of(self, key: str) -> str:
        """The format that was asked for when the output of an input was written."""
        return str(asked_of(self._claims.get(key, {}))["format"])

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

    def recorded(self, place: Place) -> set[str]:
        """Checksums of what was recorded of ``place``."""
        return self._contents.get(place.address, set())

    def is_own(self, place: Place) -> bool:
        """Whether the file at ``place`` holds the very content that was recorded of it. What a
        version of this program wrote that recorded no checksum is not known to."""
        return self.may_be_own(place) and place.checksum() in self._contents[place.address]

    def is_done(self, source: Source, wanted: Record, needed: list[Place]) -> bool:
        """Whether the last line about ``source`` says done, agrees with ``wanted`` in every field,
        the input has not changed, and every file of ``needed``, the output first, is still there
        in the size that was recorded."""
        record = self.may_be_done(source, wanted, needed)
        return record is not None and _is_as_found(record, source.identity())

    def may_be_done(self, source: Source, wanted: Record, needed: list[Place]) -> Record | None:
        """The record for which ``is_done`` holds if the content of the input says so, as it may
        where the input was touched."""
        record = self.records.get(source.key)
        if record is None or not self._agrees(record, wanted, needed):
            return None
        return record if self._has_size_of(source, record) else None

    def elsewhere(self, source: Source, wanted: Record, inputs: Collection[str]) -> Record | None:
        """What was recorded of an input in the same place of another tree, none of ``inputs``, if
        all but its content tells that it is this one, which was moved or copied."""
        record = self._claims.get(self._places.get(str(source.relative), ""))
        name = None if record is None else safe_output_name(record)
        if record is None or name is None or record["input"] in inputs:
            return None
        record = self.records.get(record["input"], record)
        if "input_sha256" not in record:
            return None
        if not self._agrees(record, wanted, targets(self._output, self._masks, name)):
            return None
        return record if self._has_size_of(source, record) else None

    def _has_size_of(self, source: Source, record: Record) -> bool:
        try:
            found = source.identity()
        except OSError:
            return False
        if "input_sha256" not in record:  # by an earlier version
            return all(record.get(key) == value for key, value in found.items())
        return found["input_bytes"] == record.get("input_bytes")

    def _agrees(self, record: Record, wanted: Record, needed: list[Place]) -> bool:
        if record.get("status") != DONE or safe_output_name(record) is None:
            return False
        found = record | asked_of(record)
        for key, value in wanted.items():
            if found.get(key) != value and not (
                key == "masks" and record.get(key) in self._mask_roots
            ):
                return False
        for part, place in zip(PARTS, needed, strict=False):
            size = place.size()
            if not size or size != record.get(f"{part}_bytes", size):
                return False
        return True

    def is_same_content(self, record: Record, found: Record, *, verify: bool) -> bool:
        """``is_same_content`` of the stores of this manifest."""
        return is_same_content(record, found, self._output, self._masks, verify=verify)

    def confirm(self, source: Source, record: Record, found: Record) -> None:
        """Note that a record of an earlier run, perhaps of another tree, is right for ``source`` as
        it was found; nothing where the record says so already."""
        status = {key: found[key] for key in source.identity()}
        if record["input"] != source.key or not _is_as_found(record, status):
            self.add(record | {"input": source.key, "relative": str(source.relative), **found})

    def add(self, record: Record) -> None:
        """Append one line and hand it to the operating system at once."""
        with self._lock:
            self.records[record["input"]] = record
        self._file.add(record)

    def close(self, *, failed: bool = False) -> None:
        """``failed``: a line may be missing of what was written; the next run asks the journal."""
        self._file.close()
        self._point_from_masks()  # whose folder the first of them may have made
        self.journal.close(keep=failed)
        self._output.end()
