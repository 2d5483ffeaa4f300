"""Defending tar files: each is a run of its own over its images, whose outputs become a tar file.

The outputs of a shard's images lie in a folder of their own until all are there, with a manifest
and a journal as any; then they are packed, the shard gets its name in one step, and the folder
goes. So a killed run loses no image that was defended, and no shard is ever half there.
"""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ansm_fast.images.atomic import Occupied
from ansm_fast.images.photograph import BadImage
from ansm_fast.inference.engine import Engine
from ansm_fast.inference.files import SHARD, OutputNames, mask_names
from ansm_fast.inference.form import Form
from ansm_fast.inference.manifest import DONE, FAILED, Manifest, Record
from ansm_fast.inference.messages import Messages
from ansm_fast.inference.options import DefendOptions, Progress
from ansm_fast.inference.plan import make_plan
from ansm_fast.inference.run import defend_files
from ansm_fast.inference.shards import (
    MemberSource,
    OpenShard,
    Shard,
    images_among,
    members_of,
    repack,
    sources_of,
)
from ansm_fast.inference.stores import MANIFEST, Store, as_store, checksum_of
from ansm_fast.inference.summary import Summary

_STAGING, _MASKS = ".shards", "masks"
# Failures that are not the image's own: the shard is tried again rather than packed without it.
_PASSING = ("cannot be written", "cannot be read")


class _ShardForm(Form):
    @property
    def suffix(self) -> str:
        return SHARD


@dataclass(frozen=True)
class ShardOptions:
    """
    Attributes:
        members: pattern of the names of the members that are photographs; None: all images.
        masks: put the localizer's masks before and after beside each image.
    """

    members: str | None = None
    masks: bool = False


def defend_shards(
    shards: Sequence[Shard],
    output: Path | Store,
    engine: Engine,
    *,
    fingerprint: str,
    localizer_fingerprint: str = "",
    attacked_threshold: float = 0.5,
    shard_options: ShardOptions = ShardOptions(),
    options: DefendOptions | None = None,
    form: Form = Form(),  # noqa: B008
    on_start: Callable[[int, int], None] = lambda total, skipped: None,
    on_progress: Progress = lambda source, status, reason: None,
    messages: Messages | None = None,
) -> Summary:
    """Defend the images of every shard into a shard of its name below ``output``, in which all
    other members are as they were; see ``defend_files``, whose arguments these are.

    The counts of the summary are of images; a shard that cannot be read or written counts as one
    failure.

    Args:
        on_start: called for each shard that is not done, with the images so far, its own included,
            and how many of them were done before.
    """
    run = _ShardRun(
        as_store(output, (options or DefendOptions()).sync),
        engine,
        shard_options,
        options or DefendOptions(),
        form,
        on_start,
        on_progress,
        {
            "fingerprint": fingerprint,
            "localizer_fingerprint": localizer_fingerprint,
            "attacked_threshold": attacked_threshold,
            "messages": messages,
        },
    )
    return run.run(shards)


class _ShardRun:
    def __init__(
        self,
        store: Store,
        engine: Engine,
        shard_options: ShardOptions,
        options: DefendOptions,
        form: Form,
        on_start: Callable[[int, int], None],
        on_progress: Progress,
        passed_on: dict[str, Any],
    ) -> None:
        self.store, self.engine, self.shard_options = store, engine, shard_options
        self.options, self.form = options, form
        self.on_start, self.on_progress, self.passed_on = on_start, on_progress, passed_on
        self.summary = Summary(output=str(store), manifest=str(store.place(MANIFEST)))
        self.summary.fingerprint = passed_on["fingerprint"]
        self.summary.engine = engine.network
        self.common: Record = {
            "fingerprint": passed_on["fingerprint"],
            **form.asked(),
            "members": shard_options.members,
            "masks_inside": shard_options.masks,
        }
        if shard_options.masks:
            self.common["localizer_fingerprint"] = passed_on["localizer_fingerprint"]

    def run(self, shards: Sequence[Shard]) -> Summary:
        started = time.perf_counter()
        self.manifest = Manifest(self.store, sync=self.options.sync)
        form = _ShardForm(self.form.kind, self.form.effort, self.form.copy_below)
        try:
            plan = make_plan(
                shards, self.store, None, self.manifest, self.common, form,
                verify=self.options.verify,
            )  # fmt: skip
            for shard in shards:
                name, former = plan.outputs.get(shard), plan.doubtful.get(shard)
                done = name is None or (former is not None and self._is_same(shard, former))
                record = self.manifest.records.get(shard.key, {})
                if done and not self._may_fare_better(record):
                    self._count_done(record)
                elif not self._defend(shard, name or PurePosixPath(record["output"]), plan.names):
                    break
        finally:
            with contextlib.suppress(OSError):  # where none is left in the middle
                (self.store.state / _STAGING).rmdir()
            self.manifest.close()
        summary = self.summary
        summary.seconds = round(time.perf_counter() - started, 3)
        finished = summary.defended + summary.copied
        summary.images_per_second = round(finished / max(summary.seconds, 1e-9), 2)
        summary.failures.sort(key=lambda failure: failure["input"])
        return summary

    # -- what was done before ----------------------------------------------------------------

    def _is_same(self, shard: Shard, former: Record) -> bool:
        """Whether a shard that was touched, moved or is to be verified is the one of a record."""
        try:
            if shard.is_local:
                found = _found(shard, shard.at_hand(Path()))
            else:  # its version was compared
                found = shard.identity() | {"input_sha256": former.get("input_sha256")}
        except OSError:
            return False
        if not self.manifest.is_same_content(former, found, verify=self.options.verify):
            return False
        self.manifest.confirm(shard, former, found)
        return True

    def _may_fare_better(self, record: Record) -> bool:
        """Whether images of a packed shard failed which other bounds may let in."""
        return bool(record.get("failures")) and (
            record.get("max_pixels") != self.options.max_pixels
        )

    def _count_done(self, record: Record) -> None:
        failures = record.get("failures", [])
        self.summary.total += record.get("images", 0)
        self.summary.skipped += record.get("images", 0) - len(failures)
        self.summary.failed += len(failures)
        self.summary.failures += failures
        self._add_scores(record.get("scores", []))

    def _add_scores(self, scores: Sequence[int]) -> None:
        if scores:
            summary = self.summary
            summary.scored += scores[0]
            summary.attacked = (summary.attacked or 0) + scores[1]
            summary.attacked_threshold = self.passed_on["attacked_threshold"]

    # -- a shard -----------------------------------------------------------------------------

    def _defend(self, shard: Shard, name: PurePosixPath, names: OutputNames) -> bool:
        """Defend a shard; False if the run ends."""
        digest = hashlib.sha256(shard.key.encode("utf-8", errors="surrogateescape")).hexdigest()
        folder = self.store.state / _STAGING / digest[:16]
        try:
            (folder / _MASKS).mkdir(parents=True, exist_ok=True)
            path = shard.at_hand(folder)
            found = _found(shard, path)
            members = members_of(path)
            images = images_among(members, self.shard_options.members)
            opened = OpenShard(path)
        except (BadImage, OSError) as error:
            reason = str(error)
            if isinstance(error, OSError):
                reason = f"cannot be read: {error.strerror or error}"
            self._fail(shard, reason)
            for empty in (folder / _MASKS, folder):
                with contextlib.suppress(OSError):  # what was done of it stays
                    empty.rmdir()
            return True
        try:
            sources = sources_of(shard, opened, images)
            inner = self._images(sources, folder)
            if inner.interrupted:
                self.summary.interrupted = True
                return False
            if any(failure["error"].startswith(_PASSING) for failure in inner.failures):
                return True  # they were told; the rest lies ready
            lines, replacements = self._results(sources, folder)
            packed = folder / "packed.tar"
            checksum = repack(path, members, images, replacements, packed)
            if _identity(shard) != {key: found[key] for key in _identity(shard)}:
                self._fail(shard, "was replaced while it was defended")
                shutil.rmtree(folder, ignore_errors=True)
                return True
            record: Record = {
                "input": shard.key,
                "relative": str(shard.relative),
                "status": DONE,
                **self.common,
                **found,
                "output_bytes": packed.stat().st_size,
                "output_sha256": checksum,
                "images": len(images),
                "failures": inner.failures,
                "max_pixels": self.options.max_pixels,
            }
            if inner.attacked is not None:
                record["scores"] = [inner.scored, inner.attacked]
            record["output"] = self._place(shard, packed, checksum, str(name), names)
        except OSError as error:
            self._fail(shard, f"cannot be written: {error.strerror or error}")
            return True
        finally:
            opened.close()
        for line in lines:
            self.manifest.add(line | {"shard": record["output"]})
        self.manifest.add(record | {"written_at": round(time.time(), 3)})
        shutil.rmtree(folder, ignore_errors=True)
        return True

    def _images(self, sources: Sequence[MemberSource], folder: Path) -> Summary:
        """Defend the images of a shard into its own folder, and count them."""
        whole = self.summary
        before = whole.total, whole.skipped

        def on_start(total: int, skipped: int) -> None:
            self.on_start(before[0] + total, before[1] + skipped)

        arguments = dict(self.passed_on)
        if self.shard_options.masks:
            arguments["masks"] = folder / _MASKS
        else:
            arguments["localizer_fingerprint"] = ""
        inner = defend_files(
            sources,
            folder,
            self.engine,
            options=replace(self.options, verify=False),
            form=self.form,
            on_start=on_start,
            on_progress=self.on_progress,
            **arguments,
        )
        for count in ("total", "defended", "copied", "skipped", "failed"):
            setattr(whole, count, getattr(whole, count) + getattr(inner, count))
        whole.failures += inner.failures
        whole.profile = inner.profile  # of the last shard
        if inner.attacked is not None:
            self._add_scores([inner.scored, inner.attacked])
        return inner

    def _results(
        self, sources: Sequence[MemberSource], folder: Path
    ) -> tuple[list[Record], dict[int, list[tuple[str, Path]]]]:
        """What the manifest is to say of each image, and the files that stand for it."""
        own = Manifest(folder, folder / _MASKS if self.shard_options.masks else None)
        try:
            records = own.records
        finally:
            own.close()
        lines: list[Record] = []
        replacements: dict[int, list[tuple[str, Path]]] = {}
        for source in sources:
            record = records.get(source.key, {})
            line = {key: value for key, value in record.items() if key not in _OF_STAGING}
            line["input"], line["relative"] = source.key, source.member.name
            if record.get("status") == DONE:
                path = folder / str(record["output"])
                suffix = _suffix(source.member.name)
                ending = suffix if record.get("defended") is False else path.suffix
                files = [(ending, path)]
                if self.shard_options.masks:
                    for mask in mask_names(path.name):
                        ending_of_mask = mask.removeprefix(posixpath.splitext(path.name)[0])
                        files.append((ending_of_mask, folder / _MASKS / mask))
                replacements[source.number] = files
                line["member"] = source.member.name.removesuffix(suffix) + ending
            lines.append(line)
        return lines, replacements

    def _place(
        self, shard: Shard, packed: Path, checksum: str, name: str, names: OutputNames
    ) -> str:
        """Give a packed shard its name, or another one where that is taken."""
        while True:
            place = self.store.place(name)
            self.manifest.journal.begin(
                {"input": shard.key, "output": name, "output_sha256": checksum}
            )
            try:
                place.put(packed, partial(self.manifest.is_own, place))
                return name
            except Occupied:
                name = str(names.another(shard))

    def _fail(self, shard: Shard, reason: str) -> None:
        record: Record = {"input": shard.key, "status": FAILED, **self.common, "error": reason}
        self.manifest.add(record | {"written_at": round(time.time(), 3)})
        self.summary.total += 1
        self.summary.failed += 1
        self.summary.failures.append({"input": str(shard), "error": reason})
        self.on_progress(shard, FAILED, reason)


# Fields of an image's record that are of the folder in which its outputs lay.
_OF_STAGING = ("output", "masks", "mask_before", "mask_after")


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1]


def _identity(shard: Shard) -> Record:
    try:
        return shard.identity()
    except OSError:
        return {}


def _found(shard: Shard, path: Path) -> Record:
    """The identity of a shard and, of one of this machine, its content's."""
    begun = round(time.time(), 3)
    found = shard.identity()
    if shard.is_local:
        found |= {"input_sha256": checksum_of(path), "input_read_at": begun}
    return found
