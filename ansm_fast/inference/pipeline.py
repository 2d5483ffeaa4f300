"""The threads of a run: readers -> batcher -> engine -> writers, in constant memory."""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath

from ansm_fast.images.photograph import BadImage, Photograph
from ansm_fast.images.read import decode_photograph
from ansm_fast.inference.batcher import Batcher
from ansm_fast.inference.engine import Defended, Engine
from ansm_fast.inference.files import Source
from ansm_fast.inference.form import Form
from ansm_fast.inference.manifest import (
    DONE,
    FAILED,
    SKIPPED,
    Manifest,
    Record,
    record_of,
)
from ansm_fast.inference.memory import Tidy
from ansm_fast.inference.messages import Messages
from ansm_fast.inference.options import DefendOptions, Progress
from ansm_fast.inference.plan import Plan
from ansm_fast.inference.profile import Profile, stage
from ansm_fast.inference.queues import BoundedQueue, PixelBudget, Stopped
from ansm_fast.inference.reading import ATTEMPTS, is_unchanged, read_source
from ansm_fast.inference.shortage import defend_within_memory
from ansm_fast.inference.stores import Store
from ansm_fast.inference.summary import Summary
from ansm_fast.inference.writer import why_unwritten, write_result

# So many outputs one after another, and the disk is full for all of them.
_FULL_DISK = 16
_WRITER = "writer"


@dataclass
class _Job:
    source: Source
    output: PurePosixPath
    pixels: int = 0
    content: bytes | None = None  # of the input, where it may be copied
    image: Photograph | None = None
    result: Defended | None = None
    started: float = 0.0
    found: Record = field(default_factory=dict)
    attempts: int = 0
    said: list[str] = field(default_factory=list)  # by libraries


class Pipeline:
    """One run over a list of jobs; the calling thread drives the engine."""

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        store: Store,
        masks: Store | None,
        manifest: Manifest,
        common: Record,
        options: DefendOptions,
        form: Form,
        summary: Summary,
        on_progress: Progress,
        messages: Messages | None,
    ) -> None:
        self.jobs = [_Job(source, name) for source, name in plan.outputs.items()]
        self.names, self.doubtful = plan.names, plan.doubtful
        self.engine, self.options, self.form = engine, options, form
        self.store, self.masks, self.manifest, self.common = store, masks, manifest, common
        self.summary, self.on_progress, self.messages = summary, on_progress, messages
        self.profile = Profile() if options.profile else None
        # Nothing is begun any more; nothing is done any more.
        self.ending, self.stop = threading.Event(), threading.Event()
        self.budget = PixelBudget(options.budget_pixels, self.ending)
        ahead = 4 * max(engine.streams, options.batch_size)
        self.decoded: BoundedQueue[_Job] = BoundedQueue(ahead, self.ending)
        self.ready: BoundedQueue[list[_Job]] = BoundedQueue(1, self.ending)
        self.defended: BoundedQueue[_Job | None] = BoundedQueue(ahead, self.stop)
        self._lock, self._tidy = threading.Lock(), Tidy(engine.streams, 2 * engine.tile**2)
        self._waiting = deque(self.jobs)
        self._threads: defaultdict[str, list[threading.Thread]] = defaultdict(list)  # by kind
        self._finished = self._full = self._ended = 0

    # -- results ----------------------------------------------------------------------------

    def _finish(self, job: _Job, status: str, details: Record) -> None:
        elapsed = time.perf_counter() - job.started
        record = record_of(job.source, status, self.common, job.found, details, elapsed, job.said)
        self.manifest.add(record)
        copied = not details.get("defended", True)
        self._count(job, status, str(details.get("error", "")), copied=copied)

    def _count(self, job: _Job, status: str, reason: str = "", *, copied: bool = False) -> None:
        with self._lock:
            self._finished += 1
            self.summary.count(job.source, status, reason, copied=copied)
            self.on_progress(job.source, status, reason)
        self._let_go(job)

    def _let_go(self, job: _Job) -> None:
        if job.pixels:
            self.budget.release(job.pixels)
        job.image = job.result = job.content = None
        with self._lock:
            self._tidy.after_image(job.pixels)
        job.pixels = 0

    def _again(self, job: _Job) -> None:
        """Begin anew with an input that was replaced since it was read."""
        job.attempts += 1
        if job.attempts == ATTEMPTS:
            reason = f"was replaced {ATTEMPTS} times while it was defended"
            return self._finish(job, FAILED, {"error": reason})
        self._let_go(job)
        with self._lock:
            self._waiting.append(job)

    # -- threads ----------------------------------------------------------------------------

    def _take(self) -> _Job | None:
        """The next job; None when all are finished, as any may have to be done again."""
        while not self.ending.is_set():
            with self._lock:
                if self._waiting:
                    return self._waiting.popleft()
                if self._finished >= len(self.jobs):
                    break
            self.ending.wait(0.02)
        return None

    @contextlib.contextmanager
    def _about(self, job: _Job) -> Iterator[None]:
        if self.messages is None:
            yield
            return
        with self.messages.about(str(job.source)) as job.said:
            yield

    def _reserve(self, job: _Job) -> Callable[[int], None]:
        def reserve(pixels: int) -> None:
            self.budget.acquire(pixels)
            job.pixels = pixels

        return reserve

    def _read(self) -> None:
        limit, verify = self.options.max_pixels, self.options.verify
        while (job := self._take()) is not None:
            job.started = time.perf_counter()
            try:
                with stage("read"):
                    content, job.found = read_source(job.source, limit)
                former = self.doubtful.get(job.source)
                if former and self.manifest.is_same_content(former, job.found, verify=verify):
                    self.manifest.confirm(job.source, former, job.found)
                    self._count(job, SKIPPED)
                    continue
                with stage("decode"), self._about(job):
                    job.image = decode_photograph(content, limit, self._reserve(job))
                if self.form.copy_below is not None:
                    job.content = content
            except BadImage as error:
                self._finish(job, FAILED, {"error": str(error)})
                continue
            del content
            self.decoded.put(job)

    def _write(self) -> None:
        while (job := self.defended.get()) is not None:
            assert job.image is not None and job.result is not None
            if not is_unchanged(job.source, job.found):
                self._again(job)
                continue
            try:
                details = write_result(
                    job.image,
                    job.result,
                    self.store,
                    str(job.output),
                    self.masks,
                    self.manifest,
                    job.source.key,
                    form=self.form,
                    original=None
                    if job.content is None
                    else (job.content, job.source.relative.suffix),
                    another=partial(self.names.another, job.source),
                )
            except Exception as error:
                reason = why_unwritten(error)
                if not reason:
                    raise
                self._finish(job, FAILED, {"error": reason})
                self._mind_the_disk(error)
            else:
                self._finish(job, DONE, details)
                self._full = 0

    def _stream(self) -> None:
        while True:
            self._defend(self.ready.get())

    def _mind_the_disk(self, error: Exception) -> None:
        """End the run where one output after another finds no room."""
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            self._full += 1
            if self._full >= _FULL_DISK:
                raise error

    def _start(self, target: Callable[[], None], count: int, kind: str) -> None:
        def run() -> None:
            if self.profile is not None:
                self.profile.joined(kind)
            try:
                target()
            except Stopped:
                pass
            except KeyboardInterrupt:  # of user code in an engine
                self.summary.interrupted = True
                self.ending.set()
            except BaseException as error:  # a fault of ours: the calling thread raises it
                self.fault = error
                self.ending.set()
                self.stop.set()

        for _ in range(count):
            thread = threading.Thread(target=run, name=f"ansm-fast-{kind}", daemon=True)
            self._threads[kind].append(thread)
            thread.start()

    # -- the calling thread -----------------------------------------------------------------

    fault: BaseException | None = None

    def run(self) -> None:
        try:
            try:
                self._start(self._read, self.options.readers, "reader")
                self._start(self._stream, self.engine.streams, "stream")
                self._start(self._write, self.options.writers, _WRITER)
                self._drive()
                self._end_writers()
            except Stopped:
                pass
            except KeyboardInterrupt:
                self.summary.interrupted = True
            if self.summary.interrupted:
                self._drain()
        finally:
            self.ending.set()
            self.stop.set()
            self._join(self._threads)
        if self.fault is not None:
            raise self.fault

    def _join(self, kinds: Iterable[str]) -> None:
        for kind in list(kinds):
            for thread in self._threads[kind]:
                if thread.ident is not None:  # an interruption came before it was started
                    thread.join()

    def _end_writers(self) -> None:
        while self._ended < len(self._threads[_WRITER]):
            self.defended.put(None)
            self._ended += 1
        self._join([_WRITER])

    def _drain(self) -> None:
        """Begin nothing more, and write what was begun."""
        self.ending.set()
        self._join(kind for kind in self._threads if kind != _WRITER)
        with contextlib.suppress(Stopped):  # by a fault
            self._end_writers()

    def _drive(self) -> None:
        batcher: Batcher[_Job] = Batcher(self.options.batch_size, self.options.batch_pixels)
        while True:
            job = self.decoded.get_nowait()
            if job is None:
                # Nothing has come: run what waits rather than wait for company. This also
                # lets readers go on that wait for pixels held by the batcher.
                batch = batcher.flush()
                if not batch:
                    if self._finished >= len(self.jobs):
                        return
                    if self.ending.is_set():
                        raise Stopped
                    time.sleep(0.001)
                    continue
            else:
                assert job.image is not None
                size = self.engine.padded(job.image)
                batch = batcher.add(job, (size, job.image.depth), size[0] * size[1])
            if batch:
                self.ready.put(batch)  # waits for a stream: meanwhile a bucket may fill

    def _defend(self, batch: list[_Job]) -> None:
        images = [job.image for job in batch if job.image is not None]
        for job, result in zip(batch, defend_within_memory(self.engine, images), strict=True):
            if isinstance(result, BadImage):
                self._finish(job, FAILED, {"error": str(result)})
            else:
                job.result = result
                self.defended.put(job)
