"""The stages of ``defend`` as the workers of a Ray cluster run them; they keep the rules of names,
identity and overwriting by the functions of the pipeline of one machine.

What passes from stage to stage is one row for each input, an object as bytes: Ray then knows how
much memory it takes.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from ansm_fast.images.photograph import BadImage, Photograph
from ansm_fast.images.read import decode_photograph
from ansm_fast.inference.batcher import Batcher
from ansm_fast.inference.engine import Defended, Engine
from ansm_fast.inference.files import OutputNames, Source
from ansm_fast.inference.form import Form
from ansm_fast.inference.journal import Journal
from ansm_fast.inference.manifest import DONE, FAILED, SKIPPED, is_same_content, record_of
from ansm_fast.inference.messages import Messages
from ansm_fast.inference.reading import is_unchanged, read_source
from ansm_fast.inference.shortage import defend_within_memory
from ansm_fast.inference.stores import Place, Store
from ansm_fast.inference.writer import why_unwritten, write_result
from ansm_fast.json_lines import Record

REPLACED = "replaced"  # while it was defended: to be done again
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What all stages are told."""

    output: Store
    masks: Store | None
    form: Form
    common: Record
    max_pixels: int
    batch_size: int
    batch_pixels: int
    verify: bool
    sync: bool


@dataclass
class Item:
    """One input on its way.

    Attributes:
        output: the name that the plan gave.
        recorded: by address, checksums of what an earlier run wrote under that name.
        former: a record that serves if the input's content is what it says.
        status: "" until it is known.
        details: what the record says, or the error.
    """

    index: int
    source: Source
    output: str
    recorded: dict[str, set[str]]
    former: Record | None = None
    found: Record = field(default_factory=dict)
    content: bytes | None = None
    image: Photograph | None = None
    result: Defended | None = None
    status: str = ""
    details: Record = field(default_factory=dict)
    record: Record | None = None
    said: list[str] = field(default_factory=list)  # by libraries
    started: float = 0.0  # of the clock, as workers have no other in common

    def as_row(self) -> Row:
        return {"item": pickle.dumps(self, protocol=5)}

    def conclude(self, status: str, details: Record) -> None:
        self.status, self.details = status, details
        self.image = self.result = self.content = None


def item_of(row: Row) -> Item:
    found = pickle.loads(row["item"])
    assert isinstance(found, Item)
    return found


def read(row: Row, settings: Settings) -> Row:
    """Read and decode one input."""
    item = item_of(row)
    item.started = time.time()
    with Messages(lambda line: None) as messages, messages.about(str(item.source)) as item.said:
        _read(item, settings)
    return item.as_row()


def _read(item: Item, settings: Settings) -> None:
    try:
        content, item.found = read_source(item.source, settings.max_pixels)
        if item.former is not None and is_same_content(
            item.former, item.found, settings.output, settings.masks, verify=settings.verify
        ):
            item.conclude(SKIPPED, {})
            return
        item.image = decode_photograph(content, settings.max_pixels)
        if settings.form.copy_below is not None:
            item.content = content
    except BadImage as error:
        item.conclude(FAILED, {"error": str(error)})


class Defend:
    """An actor that holds an engine."""

    def __init__(self, settings: Settings, make_engine: Callable[[], Engine]) -> None:
        self.settings, self.engine = settings, make_engine()

    def __call__(self, batch: Row) -> Row:
        items = [item_of({"item": one}) for one in batch["item"]]
        batcher: Batcher[Item] = Batcher(self.settings.batch_size, self.settings.batch_pixels)
        for item in items:
            if item.image is not None:
                size = self.engine.padded(item.image)
                self._defend(batcher.add(item, (size, item.image.depth), size[0] * size[1]))
        while waiting := batcher.flush():
            self._defend(waiting)
        return {"item": [item.as_row()["item"] for item in items]}

    def _defend(self, items: list[Item]) -> None:
        images = [item.image for item in items if item.image is not None]
        for item, result in zip(items, defend_within_memory(self.engine, images), strict=True):
            if isinstance(result, BadImage):
                item.conclude(FAILED, {"error": str(result)})
            else:
                item.result = result


class Claims:
    """What a writing actor knows of the manifest: what was recorded of an input's files before the
    run, and what the actors of this run, also those that were killed, have begun to write."""

    def __init__(self, settings: Settings) -> None:
        settings.output.state.mkdir(parents=True, exist_ok=True)  # of an address, here
        self.journal = Journal(settings.output, settings.masks, sync=settings.sync, shared=True)
        self.item: Item | None = None

    def is_own(self, place: Place) -> bool:
        assert self.item is not None
        if not place.may_be_read():
            return False
        found = place.checksum()
        if found in self.item.recorded.get(place.address, ()):
            return True
        return any(
            record["input"] == self.item.source.key
            and found in (value for key, value in record.items() if key.endswith("_sha256"))
            for record in self.journal.of_others()
        )


class Write:
    """An actor that encodes and writes. Its journal is its part of the manifest: if nobody is left
    to merge it, the next run does."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.claims = settings, Claims(settings)
        self._lock = threading.Lock()

    def __call__(self, row: Row) -> Row:
        item = item_of(row)
        with self._lock:
            if item.image is not None and item.result is not None:
                self._write(item)
        if item.status in (DONE, FAILED):
            item.record = record_of(
                item.source,
                item.status,
                self.settings.common,
                item.found,
                item.details,
                time.time() - item.started,
                item.said,
            )
            self.claims.journal.begin(item.record)
        return item.as_row()

    def _write(self, item: Item) -> None:
        assert item.image is not None and item.result is not None
        if not is_unchanged(item.source, item.found):
            item.conclude(REPLACED, {})
            return
        self.claims.item = item
        original = None
        if item.content is not None:
            original = item.content, item.source.relative.suffix
        try:
            details = write_result(
                item.image,
                item.result,
                self.settings.output,
                item.output,
                self.settings.masks,
                self.claims,
                item.source.key,
                form=self.settings.form,
                original=original,
                another=partial(self._another, item, []),
            )
        except Exception as error:
            reason = why_unwritten(error)
            if not reason:
                raise
            item.conclude(FAILED, {"error": reason})
        else:
            item.conclude(DONE, details)

    def _another(self, item: Item, given: list[OutputNames], suffix: str) -> PurePosixPath:
        # What other actors write meanwhile isn't known here; no file is written over all the same.
        if not given:
            form, output, masks = self.settings.form, self.settings.output, self.settings.masks
            given.append(OutputNames(output, masks, (), (), form.suffix))
            given[0].keep(item.source, PurePosixPath(item.output))
        return given[0].another(item.source, suffix)
