"""What stands around the training of an ANSM: a look first, and a verdict at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ansm_fast.cli.train_arguments import PRESETS

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ansm_fast.training.ansm_config import ANSMRun
    from ansm_fast.training.batches import MemorySet


def look(run: ANSMRun, output: Path, presets: Mapping[str, ANSMRun]) -> None:
    """Look at the localizer that ``run`` trains for, print what was found and how long it will
    take, and write both to ``output/inspection.json``; what was found before is printed again.

    Args:
        presets: the same training by the presets, whose times are told too.

    Raises:
        InputError: no ANSM can be trained for it, or the images are unusable.
    """
    from ansm_fast.images.atomic import write_text
    from ansm_fast.localizers import load_localizer
    from ansm_fast.training.ansm import prepare
    from ansm_fast.training.processes import chosen_device

    device = chosen_device(run.device)
    localizer = load_localizer(run.localizer).to(device)
    taps, _ = prepare(run, localizer)  # what is wrong there shows before any image is read
    of = {"localizer": localizer.fingerprint, "config": run.settings(), "threads": _threads()}
    path = output / "inspection.json"
    document = _before(path, of)
    if document is None:
        document = {"of": of} | _looked(run, localizer, taps, device, presets)
        write_text(path, json.dumps(document, indent=2) + "\n")
    click.echo(f"localizer {run.localizer or 'robust'} (fingerprint {localizer.fingerprint})")
    for line in document["lines"]:
        click.echo(f"  {line}")
    for line in document["warnings"]:
        click.echo(f"warning: {line}", err=True)
    click.echo("times here, from steps timed with the machine as busy as it is now:")
    for line in document["times"]:
        click.echo(f"  {line}")


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _before(path: Path, of: dict[str, Any]) -> dict[str, Any] | None:
    """What was found before, of the same localizer and configuration."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("of") == of else None


def _looked(
    run: ANSMRun,
    localizer: nn.Module,
    taps: tuple[str, ...],
    device: torch.device,
    presets: Mapping[str, ANSMRun],
) -> dict[str, Any]:
    from ansm_fast.evaluation.catalogue import catalogue_entry
    from ansm_fast.evaluation.verdict import ATTACKS, STEPS
    from ansm_fast.images.tensors import to_tensor
    from ansm_fast.training.batches import MemorySet
    from ansm_fast.training.estimate import Estimator
    from ansm_fast.training.inspection import check_sides, inspect_localizer

    data = MemorySet.validation(run.data)
    check_sides(localizer, to_tensor(data.images[:1]).to(device), run.sides())
    found = inspect_localizer(localizer, data.images, data.masks, taps, device)
    estimator = Estimator(localizer, found, data, device)
    entries = [catalogue_entry(name) for name in ATTACKS]
    judged = [(one.attack, one.effort * STEPS) for one in entries if one.attack is not None]
    runs = {f"--preset {name}": preset for name, preset in presets.items()}
    if run not in runs.values():
        runs = {"this run": run} | runs
    times = {name: estimator(one, judged) for name, one in runs.items()}
    return found.document() | {
        "lines": found.lines(),
        "warnings": found.warnings(),
        "times": [f"{name}: {time.line()}" for name, time in times.items()],
        "seconds": {name: round(time.total, 1) for name, time in times.items()},
    }


def conclude(run: ANSMRun, output: Path, preset: str | None, command: str) -> None:
    """Measure the trained ANSM on the validation images, print table and verdict, and write them to
    ``output/verdict.json`` and ``output/verdict.md``.

    The images and what was attacked of them stay in ``output/validation``: an interrupted command
    goes on there, and a finished one says the same again.
    """
    from ansm_fast.data import FolderDataset
    from ansm_fast.evaluation import Protocol, Systems, make_defences, make_rows, measure
    from ansm_fast.evaluation import verdict as rules
    from ansm_fast.evaluation.provenance import read_training
    from ansm_fast.localizers import load_localizer
    from ansm_fast.models import load_ansm
    from ansm_fast.progress import Progress
    from ansm_fast.training.batches import MemorySet
    from ansm_fast.training.processes import chosen_device

    device = chosen_device(run.device)
    weights, folder = output / "ansm.safetensors", output / "validation"
    data = MemorySet.validation(run.data)
    _write_set(folder, data)
    dataset = FolderDataset(folder / "images", folder / "masks")
    ansm = load_ansm(weights).to(device)
    systems = Systems(
        load_localizer(run.localizer).to(device),
        make_defences(rules.DEFENCES, ansm, device),
        device=device,
    )
    protocol = Protocol(rules.ATTACKS, [rules.EPS], rules.STEPS, rules.DEFENCES, harmless=False)
    with Progress("evaluate", len(dataset)) as progress:
        measured = measure(
            dataset,
            systems,
            protocol,
            folder / "attacked",
            on_start=progress.start,
            on_progress=progress.advance,
        )
    rows = make_rows(measured, {"ansm": read_training(weights)})
    verdict = rules.judge(rows, _next(preset))
    images = f"{len(data)} images of {run.data.validation or run.data.train}"
    rules.write_verdict(output, verdict, rows, images, command)
    click.echo(rules.markdown(verdict, rows, images), nl=False)


def _next(preset: str | None) -> str | None:
    return dict(pairwise(PRESETS)).get(preset or "")


def _write_set(folder: Path, data: MemorySet) -> None:
    """Write images and masks of a set; those that an earlier command has written stay."""
    from ansm_fast.images.write import write_png

    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index, (image, mask) in enumerate(zip(data.images, data.masks, strict=True)):
        # The mask first: an image without its mask can then never be seen.
        for part, pixels in (("masks", (mask * 255).astype("uint8")[..., None]), ("images", image)):
            path = folder / part / f"{index:05d}.png"
            if not path.exists():
                write_png(path, pixels)
