"""A run: what is to be done, the pipeline that does it, and the summary."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from ansm_fast.inference.engine import Engine
from ansm_fast.inference.files import Source
from ansm_fast.inference.form import Form
from ansm_fast.inference.manifest import Manifest, common_fields
from ansm_fast.inference.messages import Messages
from ansm_fast.inference.options import DefendOptions, Progress
from ansm_fast.inference.pipeline import Pipeline
from ansm_fast.inference.plan import make_plan
from ansm_fast.inference.stores import MANIFEST, Store, as_store
from ansm_fast.inference.summary import Summary


@contextlib.contextmanager
def _cores_shared(streams: int) -> Iterator[None]:
    """Several streams compute on one core each: no core waits for another within an operator."""
    before = torch.get_num_threads()
    if streams > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def defend_files(
    sources: Sequence[Source],
    output: Path | Store,
    engine: Engine,
    *,
    fingerprint: str,
    masks: Path | Store | None = None,
    localizer_fingerprint: str = "",
    attacked_threshold: float = 0.5,
    options: DefendOptions | None = None,
    form: Form = Form(),  # noqa: B008
    on_start: Callable[[int, int], None] = lambda total, skipped: None,
    on_progress: Progress = lambda source, status, reason: None,
    messages: Messages | None = None,
) -> Summary:
    """Defend every source into ``output`` and record each in its manifest.

    A source is skipped if the manifest says that it was done with the same fingerprints, it has
    not changed since, and its output (and masks) are still there in their size (with
    ``options.verify``, in the very content that was recorded). What was only touched, or belongs to
    a tree that was moved or copied, is known by its content. Nothing is ever
    written over but what the manifest recorded, by its checksum: where something else lies, the
    output gets another name.

    Args:
        sources: from ``search.from_folder`` or ``files.from_files``.
        output: existing, writable folder, or another store.
        masks: where the masks before and after go; needs an engine with a localizer.
        form: what outputs are like.
        attacked_threshold: attack score from which the summary counts an image as attacked.
        on_start: called once with the number of sources and of those that are skipped.
        on_progress: called for each source that is done, failed, or skipped for its content, one
            call at a time.
        messages: takes what libraries say of files.

    Raises:
        InputError: the manifest cannot be used.
    """
    options = options or DefendOptions()
    started = time.perf_counter()
    store = as_store(output, options.sync)
    mask_store = None if masks is None else as_store(masks, options.sync)
    manifest = Manifest(store, mask_store, sync=options.sync)
    common = common_fields(fingerprint, form, store, mask_store, localizer_fingerprint)
    summary = Summary(
        total=len(sources),
        output=str(output),
        manifest=str(store.place(MANIFEST)),
        fingerprint=fingerprint,
        engine=engine.network,
    )
    try:
        plan = make_plan(sources, store, mask_store, manifest, common, form, verify=options.verify)
        summary.skipped = plan.skipped
        on_start(len(sources), summary.skipped)
        with _cores_shared(engine.streams):
            run = Pipeline(
                plan,
                engine,
                store,
                mask_store,
                manifest,
                common,
                options,
                form,
                summary,
                on_progress,
                messages,
            )
            run.run()
            summary.profile = run.profile.report() if run.profile is not None else None
        elapsed = time.perf_counter() - started
        summary.conclude(sources, manifest.records, attacked_threshold, elapsed)
    except BaseException:  # as where the disk is too full for a line
        manifest.close(failed=True)
        raise
    manifest.close()
    return summary
