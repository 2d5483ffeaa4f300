"""``defend`` on a Ray cluster: the stages as a Ray Dataset, one manifest.

``ray`` is an extra and is imported when a run begins.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ansm_fast.errors import InputError
from ansm_fast.inference.engine import Engine
from ansm_fast.inference.files import Source, targets
from ansm_fast.inference.form import Form
from ansm_fast.inference.manifest import DONE, FAILED, SKIPPED, Manifest, common_fields
from ansm_fast.inference.messages import Messages
from ansm_fast.inference.options import DefendOptions, Progress
from ansm_fast.inference.plan import Plan, make_plan
from ansm_fast.inference.ray_stages import REPLACED, Defend, Item, Settings, Write, item_of, read
from ansm_fast.inference.reading import ATTEMPTS
from ansm_fast.inference.stores import MANIFEST, Store, as_store
from ansm_fast.inference.summary import Summary

LOCAL = "local"
# Shares of a core that stages other than the network ask for: they wait for disks and networks.
_READ_CPUS, _WRITE_CPUS = 0.5, 0.25
_OBJECT_STORE = 1 << 30


@dataclass(frozen=True)
class RayOptions:
    """Where to run, and how widely.

    Attributes:
        address: "local" starts Ray on this machine for the run; "auto" or "HOST:PORT" joins a
            cluster.
        workers: actors with a network each; None: one for each core or GPU.
        gpus: GPUs of each of these actors.
    """

    address: str = LOCAL
    workers: int | None = None
    gpus: float = 0.0


def _start(ray: Any, **settings: Any) -> None:
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **settings)
    except Exception:
        # A busy machine may take longer to start its processes than Ray waits for them.
        if settings["address"] != LOCAL:
            raise
        ray.shutdown()
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **settings)


@contextlib.contextmanager
def connected(options: RayOptions) -> Iterator[Any]:
    """Ray, started or joined, and left when the block ends.

    Raises:
        InputError: it is not installed, or there is no cluster at the address.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(f"--ray needs Ray ({error}); pip install 'ansm-fast[ray]'") from error
    folder: str | None = None
    logging.getLogger("ray").setLevel(logging.ERROR)
    before = signal.getsignal(signal.SIGTERM)
    try:
        if options.address == LOCAL:
            # Sockets lie in it, whose names have a limit.
            folder = tempfile.mkdtemp(prefix="ansm-ray-")
            cores = options.workers or os.cpu_count() or 1
            _start(
                ray,
                address=LOCAL,
                num_cpus=cores + 1,  # the networks', and one for all the other stages
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE,
                _temp_dir=folder,
            )
        else:
            _start(ray, address=options.address)
    except Exception as error:  # Ray raises what it likes
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise InputError(
            f"--ray {options.address}: {str(error).splitlines()[0]} Give the address of a running "
            "cluster, or try again when the machine has less to do"
        ) from error
    finally:
        with contextlib.suppress(ValueError, TypeError):  # not the main thread; not Python's
            signal.signal(signal.SIGTERM, before)  # Ray has its own, which ends without a word
    try:
        yield ray
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


class _Fetched:
    """Makes an engine of what the cluster holds once: its weights don't travel with each actor, and
    an actor that is started again finds them."""

    def __init__(self, ray: Any, make_engine: Callable[[], Engine]) -> None:
        self.reference = ray.put(make_engine)

    def __call__(self) -> Engine:
        import ray

        engine: Engine = ray.get(self.reference)()
        return engine


def _dataset(
    ray: Any,
    items: Sequence[Item],
    settings: Settings,
    make_engine: _Fetched,
    options: RayOptions,
) -> Any:
    """read -> defend -> write, as a Dataset of rows."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    cluster = ray.cluster_resources()
    device = "GPU" if options.gpus else "CPU"
    each = options.gpus or 1.0
    workers = options.workers or max(
        1, int((cluster.get(device, 1) - 1 * (not options.gpus)) / each)
    )
    # Some blocks for each worker, so that a slow one does not hold up the end.
    blocks = max(1, min(len(items), 8 * workers))
    rows = ray.data.from_items([item.as_row() for item in items], override_num_blocks=blocks)
    engines = {"num_gpus": options.gpus} if options.gpus else {"num_cpus": 1}
    return (
        rows.map(partial(read, settings=settings), num_cpus=_READ_CPUS)
        .map_batches(
            Defend,
            fn_constructor_args=(settings, make_engine),
            batch_size=settings.batch_size,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
            **engines,
        )
        .map(
            Write,
            fn_constructor_args=(settings,),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, workers // 2)),
            num_cpus=_WRITE_CPUS,
        )
    )


def defend_with_ray(
    ray: Any,
    sources: Sequence[Source],
    output: Path | Store,
    make_engine: Callable[[], Engine],
    *,
    fingerprint: str,
    engine: str = "",
    masks: Path | Store | None = None,
    localizer_fingerprint: str = "",
    attacked_threshold: float = 0.5,
    options: DefendOptions | None = None,
    form: Form = Form(),  # noqa: B008
    ray_options: RayOptions | None = None,
    messages: Messages | None = None,
    on_start: Callable[[int, int], None] = lambda total, skipped: None,
    on_progress: Progress = lambda source, status, reason: None,
) -> Summary:
    """``defend_files`` by the workers of a cluster; the same files, lines and promises.

    Inputs, ``output`` and ``masks`` must be at the same place on all machines. A worker that is
    killed is started again, and what it was at is done again. Each actor that writes keeps a
    journal beside the manifest, to which this process adds its lines as they come.

    Args:
        ray: from ``connected``.
        make_engine: called in each worker that defends; what it holds is sent there.
        engine: what the summary calls it.
        others: as of ``defend_files``.

    Raises:
        InputError: the manifest cannot be used.
    """
    options, ray_options = options or DefendOptions(), ray_options or RayOptions()
    started = time.perf_counter()
    store = as_store(output, options.sync)
    mask_store = None if masks is None else as_store(masks, options.sync)
    manifest = Manifest(store, mask_store, sync=options.sync)
    summary = Summary(
        total=len(sources),
        output=str(output),
        manifest=str(store.place(MANIFEST)),
        fingerprint=fingerprint,
        engine=engine,
    )
    settings = Settings(
        output=store,
        masks=mask_store,
        form=form,
        common=common_fields(fingerprint, form, store, mask_store, localizer_fingerprint),
        max_pixels=options.max_pixels,
        batch_size=options.batch_size,
        batch_pixels=options.batch_pixels,
        verify=options.verify,
        sync=options.sync,
    )
    try:
        plan = make_plan(
            sources, store, mask_store, manifest, settings.common, form, verify=options.verify
        )
        summary.skipped = plan.skipped
        on_start(len(sources), summary.skipped)
        items = _items(plan, settings, manifest)
        fetched = _Fetched(ray, make_engine)
        try:
            for _ in range(ATTEMPTS):
                replaced: list[Item] = []
                if items:
                    dataset = _dataset(ray, items, settings, fetched, ray_options)
                    for row in dataset.iter_rows():
                        item = item_of(row)
                        if item.status == REPLACED:
                            replaced.append(items[item.index])
                        else:
                            _merge(item, items[item.index], manifest, summary, on_progress)
                            _tell(item, messages)
                items = [_renumbered(index, item) for index, item in enumerate(replaced)]
            for item in items:
                reason = f"was replaced {ATTEMPTS} times while it was defended"
                summary.count(item.source, FAILED, reason)
                on_progress(item.source, FAILED, reason)
            manifest.journal.take_over_shared()
        except KeyboardInterrupt:
            summary.interrupted = True
        elapsed = time.perf_counter() - started
        summary.conclude(sources, manifest.records, attacked_threshold, elapsed)
    except BaseException:
        manifest.close(failed=True)
        raise
    manifest.close()
    return summary


def _items(plan: Plan, settings: Settings, manifest: Manifest) -> list[Item]:
    items: list[Item] = []
    for index, (source, name) in enumerate(plan.outputs.items()):
        places = targets(settings.output, settings.masks, name)
        recorded = {place.address: set(manifest.recorded(place)) for place in places}
        items.append(Item(index, source, str(name), recorded, plan.doubtful.get(source)))
    return items


def _renumbered(index: int, item: Item) -> Item:
    return Item(index, item.source, item.output, item.recorded, item.former)


def _tell(item: Item, messages: Messages | None) -> None:
    if messages is not None and item.said:
        with messages.about(str(item.source)):
            for text in item.said:
                messages.add(text)


def _merge(
    item: Item, given: Item, manifest: Manifest, summary: Summary, on_progress: Progress
) -> None:
    if item.status == SKIPPED:
        assert given.former is not None
        manifest.confirm(given.source, given.former, item.found)
    else:
        assert item.record is not None
        manifest.add(item.record)
    reason = str(item.details.get("error", ""))
    copied = item.status == DONE and not item.details.get("defended", True)
    summary.count(given.source, item.status, reason, copied=copied)
    on_progress(given.source, item.status, reason)
