"""``ansm-fast defend``: images, folders and lists of them in, defended files out."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ansm_fast.cli.defend_options import defend_command
from ansm_fast.cli.defend_report import Report, conclude
from ansm_fast.cli.options import chosen_device
from ansm_fast.errors import InputError

if TYPE_CHECKING:
    from ansm_fast.inference import Engine, Summary
    from ansm_fast.inference.files import Source
    from ansm_fast.inference.stores import Store
    from ansm_fast.models import BaseANSM


@defend_command
def command(
    files: tuple[str, ...],
    batch: str | None,
    listed: str | None,
    null: bool,
    output: str,
    weights: str | None,
    masks: str | None,
    localizer: str | None,
    kind: str,
    effort: str,
    only_attacked: bool,
    members: str | None,
    batch_size: int | None,
    threads: int | None,
    device: str,
    engine: str,
    precision: str,
    max_pixels: int,
    attacked_threshold: float | None,
    follow_links: bool,
    verify: bool,
    fsync: bool,
    ray: str | None,
    ray_workers: int | None,
    profile: bool,
    as_json: bool,
) -> None:
    """Defend FILES, every image below --batch DIR, or those of a --list, against adversarial noise.

    FILES may be patterns ('*.jpg') and tar files, and they and DIR addresses (s3://bucket/photos).
    Reads JPEG, PNG, TIFF, WebP and BMP; writes PNG of the same size, depth and name. Bad files are
    reported and skipped, and the exit code is then 1. A second run skips what is done. Where
    another file has an output's name, the output gets a further one (photo.jpg.png, photo-2.png).
    manifest.jsonl also tells how much each image looks attacked, in [0, 1] (attack_score).
    """
    if [bool(files), batch is not None, listed is not None].count(True) != 1:
        raise InputError(
            "give either FILES or --batch DIR or --list FILE; see ansm-fast defend --help"
        )
    if null and listed is None:
        raise InputError("--null says how the names of --list are separated; give --list")

    if ray_workers and ray is None:
        raise InputError("--ray-workers says how widely --ray shares the work; give --ray")
    if profile and ray is not None:
        raise InputError("--profile tells of the threads of one process; leave it out with --ray")

    from ansm_fast.images.walk import LeftOut
    from ansm_fast.inference.gather import beside, from_list, gather, is_local, store_of
    from ansm_fast.inference.shards import Shard, check_shards

    left_out = LeftOut()
    store = store_of(output, "-o", fsync)
    if listed is not None:
        sources = from_list(listed, null)
    else:
        sources = gather(files, batch, store, follow_links=follow_links, left_out=left_out)
    shards = [source for source in sources if isinstance(source, Shard)]
    check_shards(shards, sources, members, masks)
    if shards and ray is not None:
        raise InputError("--ray takes images, no tar files; give each machine some of those")
    if localizer is not None and masks is None and not shards:
        masks = beside(output, "-masks")
    mask_store = None if masks is None else store_of(masks, "--masks", fsync)
    if mask_store is not None and mask_store.real_root == store.real_root:
        raise InputError(f"masks and outputs cannot share {output}; give another folder to --masks")
    if mask_store is not None and batch and mask_store.real_root == os.path.realpath(batch):
        raise InputError(f"masks cannot go to the input folder {batch}; give another to --masks")

    from ansm_fast.inference import memory
    from ansm_fast.inference.profile import available_cores

    memory.keep_flat()

    from ansm_fast.inference import DefendOptions, Engine, defend_files
    from ansm_fast.inference.engines import check_precision, chosen_engine, fastest
    from ansm_fast.inference.form import Form
    from ansm_fast.inference.messages import Messages
    from ansm_fast.inference.shard_run import ShardOptions, defend_shards
    from ansm_fast.localizers import load_localizer
    from ansm_fast.models import ansm_path, load_ansm

    # On a cluster it is the workers' machines that need it.
    device = device if ray not in (None, "local") and device != "auto" else chosen_device(device)
    may_measure = engine == "auto" and device == "cpu" and ray is None and precision == "fp32"
    engine = chosen_engine(engine, device)
    check_precision(precision, engine)
    on_cpu = device == "cpu"
    streams = (threads or available_cores()) if on_cpu else 1
    ansm = load_ansm(ansm_path(weights, localizer))
    if attacked_threshold is not None and not ansm.has_attack_score:
        raise InputError(
            f"--attacked-threshold {attacked_threshold:g}: this ANSM gives no attack score; leave "
            "the option out, or give --weights of an ANSM that does, such as robust"
        )
    if only_attacked and not ansm.has_attack_score:
        raise InputError(
            "--only-attacked: this ANSM gives no attack score, by which attacked images are told; "
            "leave the option out, or give --weights of an ANSM that does, such as robust"
        )
    threshold = ansm.attack_threshold if attacked_threshold is None else attacked_threshold
    with_masks = mask_store is not None or (bool(shards) and localizer is not None)
    network = load_localizer(localizer) if with_masks else None
    if network is not None and ansm.trained_for not in ("", network.fingerprint):
        click.echo(
            "warning: these weights were trained for another localizer than "
            f"{localizer or 'the default one'}, whose masks may get worse by them; give --weights "
            "of an ANSM that was trained for it",
            err=True,
        )
    if may_measure and len(sources) - _recorded(store) >= fastest.WORTHWHILE:
        engine = _fastest_engine(ansm, streams)
    store.prepare("-o")
    if mask_store is not None:
        mask_store.prepare("--masks")
    # Those far away are waited for, by many at once.
    far = not (is_local(store) and all(is_local(source) for source in sources[:1]))
    make = partial(Engine, ansm, network, device=device, network=engine, precision=precision)
    with Report(as_json) as report, Messages(report.say) as messages:
        defend: Callable[..., Summary]
        if ray is not None:
            defend = partial(
                _with_ray,
                ray,
                ray_workers,
                sources,
                store,
                make,
                gpus=0.0 if on_cpu else 1.0,
                engine=engine,
                masks=mask_store,
            )
        else:
            runner = make(streams=streams)
            if shards:
                chosen = ShardOptions(members, masks=with_masks)
                defend = partial(defend_shards, shards, store, runner, shard_options=chosen)
            else:
                defend = partial(defend_files, sources, store, runner, masks=mask_store)
        summary = defend(
            # What another precision made is not what this one would make.
            fingerprint=ansm.fingerprint + ("" if precision == "fp32" else f"-{precision}"),
            localizer_fingerprint=network.fingerprint if network is not None else "",
            attacked_threshold=threshold,
            form=Form(kind, effort, threshold if only_attacked else None),
            options=DefendOptions(
                batch_size=batch_size or (1 if on_cpu else 8),
                max_pixels=max_pixels,
                verify=verify,
                sync=fsync,
                profile=profile,
                **({"readers": 16, "writers": 16} if far else {}),
            ),
            on_start=report.start,
            on_progress=report.advance,
            messages=messages,
        )
    summary.left_out = left_out.as_list()
    conclude(summary, left_out, as_json)


def _recorded(store: Store) -> int:
    """About how many images earlier runs have dealt with: lines of the manifest."""
    from ansm_fast.inference.stores import MANIFEST

    try:
        with (store.state / MANIFEST).open("rb") as lines:
            return sum(1 for _ in lines)
    except OSError:
        return 0


def _fastest_engine(ansm: BaseANSM, streams: int) -> str:
    """The engine for many images, and on stderr how fast which was."""
    from ansm_fast.inference.engines import fastest

    names = fastest.candidates()
    if len(names) == 1:
        return names[0]
    rates = fastest.measured(ansm, names, streams)
    chosen = fastest.fastest(rates)
    told = ", ".join(f"{name} {rate:.1f}" for name, rate in rates.items())
    click.echo(f"engine {chosen}; megapixels/s of a short trial: {told}", err=True)
    return chosen


def _with_ray(
    address: str,
    workers: int | None,
    sources: Sequence[Source],
    store: Store,
    make_engine: Callable[[], Engine],
    *,
    gpus: float,
    **others: Any,
) -> Summary:
    from ansm_fast.inference.ray_run import RayOptions, connected, defend_with_ray

    options = RayOptions(address, workers, gpus)
    # What Ray has to say is nothing for who reads the summary.
    with contextlib.redirect_stdout(sys.stderr), connected(options) as running:
        return defend_with_ray(running, sources, store, make_engine, ray_options=options, **others)
