"""``ansm-fast evaluate``: a localizer under attack, with and without defences."""

from __future__ import annotations

import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ansm_fast.cli.names import DEFENCES, EVALUATED_ATTACKS, ListOption
from ansm_fast.cli.options import (
    DEVICE,
    EPS,
    check_apart,
    prepare_device,
    removed_option,
)
from ansm_fast.errors import InputError

if TYPE_CHECKING:
    from ansm_fast.evaluation import Measurement

QUICK_EPS = "4/255"
DEFAULT_EPS = "2/255,4/255,8/255"
PATH = click.Path(path_type=Path)


@click.command()
@click.argument("folders", nargs=-1, type=PATH, metavar="[DIR]...")
@click.option(
    "--images",
    multiple=True,
    type=PATH,
    metavar="DIR",
    help="Instead of a folder that holds images/ and masks/; may be given several times.",
)
@click.option(
    "--masks",
    multiple=True,
    type=PATH,
    metavar="DIR",
    help="Masks with the images' names: of two levels the brighter is forged; black is pristine.",
)
@click.option("--name", "names", multiple=True, help="Name of an image set, in their order.")
@click.option(
    "--permuted",
    is_flag=True,
    help="Also tables of permuted F1, of the better of each mask and its inverse.",
)
@click.option("--pool", "pooled", is_flag=True, help="Report all sets together as well.")
@click.option("--quick", is_flag=True, help="Few attacks, eps 4/255, unless given otherwise.")
@click.option(
    "--attacks",
    cls=ListOption,
    type=EVALUATED_ATTACKS,
    help="All by default; with --quick none, pgd, hide, wrong-mask and adaptive-worst.",
)
@click.option("--eps", metavar="LIST", help=f"Budgets; by default {DEFAULT_EPS}.")
@click.option("--steps", default=20, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--adaptive-steps",
    type=click.IntRange(min=1),
    help="Of attacks through the defence that is scored; 100, with --quick as --steps.",
)
@click.option(
    "--adaptive-restarts",
    type=click.IntRange(min=1),
    help="Random starts of these, of which every image gets the worst; 3, with --quick 1.",
)
@click.option(
    "--defences",
    cls=ListOption,
    type=DEFENCES,
    help="All by default.",
)
@click.option(
    "--localizer",
    metavar="NAME_OR_FILE",
    help="`robust` (default), `builtin`, a checkpoint, or your own module:function.",
)
@click.option(
    "--weights",
    multiple=True,
    metavar="[NAME=]FILE",
    help="ANSM: `robust`, `tiny`, `two_view` or a checkpoint; by default the one that was "
    "trained for the localizer. Several with names: a column each.",
)
@click.option(
    "--surrogate", metavar="NAME_OR_FILE", help="Second localizer, for transferred attacks."
)
@click.option(
    "--surrogate-weights",
    type=PATH,
    metavar="FILE",
    help="ANSM that adaptive-transfer goes through; a Gaussian blur by default.",
)
@click.option(
    "--adaptive-through",
    default="ansm",
    show_default=True,
    type=click.Choice(["all", "ansm"]),
    help="Defences that get adaptive attacks of their own; `all` takes several times as long.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many of each set.")
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@DEVICE
@click.option(
    "--cache",
    type=PATH,
    metavar="DIR",
    help="Keep attacked images and figures; an interrupted or repeated run goes on from them.",
)
@click.option("--json", "json_file", type=PATH, metavar="FILE", help="All figures.")
@click.option("--csv", "csv_file", type=PATH, metavar="FILE", help="All rows.")
@click.option(
    "--markdown",
    "markdown_file",
    type=PATH,
    metavar="FILE",
    help="Write the tables; into a document with the marks <!-- table:evaluation -->.",
)
@removed_option("--latex", "give --markdown FILE, which pandoc turns into LaTeX, or --csv FILE")
@click.option("--plots", type=PATH, metavar="DIR", help="Robustness curves and example strips.")
def command(
    folders: tuple[Path, ...],
    images: tuple[Path, ...],
    masks: tuple[Path, ...],
    names: tuple[str, ...],
    permuted: bool,
    pooled: bool,
    quick: bool,
    attacks: list[str] | None,
    eps: str | None,
    steps: int,
    adaptive_steps: int | None,
    adaptive_restarts: int | None,
    defences: list[str] | None,
    localizer: str | None,
    weights: tuple[str, ...],
    surrogate: str | None,
    surrogate_weights: Path | None,
    adaptive_through: Literal["all", "ansm"],
    limit: int | None,
    batch_size: int,
    seed: int,
    device: str,
    cache: Path | None,
    json_file: Path | None,
    csv_file: Path | None,
    markdown_file: Path | None,
    plots: Path | None,
) -> None:
    """Attack a localizer and measure it with each defence, on every DIR (images/ and masks/).

    F1, MCC and IoU (threshold 0.5), F1 at each image's best threshold and AUC are means over forged
    images with 95 % bootstrap intervals; pristine images give the mean area that is marked all
    the same. Beside them stands what masks reach that mark everything or nothing, and how well an
    ANSM tells attacked images from others. Image sets are reported apart.
    """
    from rich.console import Console

    from ansm_fast.data import FolderDataset
    from ansm_fast.evaluation import (
        ATTACKS,
        QUICK_ATTACKS,
        Protocol,
        Systems,
        attacked_rows,
        make_rows,
        measure,
        pool,
    )
    from ansm_fast.evaluation.cache import folders_of_sets
    from ansm_fast.evaluation.defences import ansm_defence
    from ansm_fast.evaluation.estimate import estimate, readable
    from ansm_fast.evaluation.inputs import defence_columns, defence_names, image_sets
    from ansm_fast.evaluation.report import Files, document, print_tables
    from ansm_fast.evaluation.targets import fingerprint
    from ansm_fast.images.find import left_out_lines
    from ansm_fast.inference.stores import prepare_folder
    from ansm_fast.localizers import load_localizer
    from ansm_fast.models import load_ansm
    from ansm_fast.progress import Progress

    columns, notes = defence_names(defences)
    budgets = eps if eps is not None else (QUICK_EPS if quick else DEFAULT_EPS)
    protocol = Protocol(
        attacks=attacks or (QUICK_ATTACKS if quick else ATTACKS),
        eps=[EPS.convert(part.strip(), None, None) for part in budgets.split(",")],
        steps=steps,
        adaptive_steps=adaptive_steps or (steps if quick else Protocol.adaptive_steps),
        adaptive_restarts=adaptive_restarts or (1 if quick else Protocol.adaptive_restarts),
        defences=columns,
        seed=seed,
        limit=limit,
        batch_size=batch_size,
    )
    files = Files(json_file, csv_file, markdown_file)
    files.check()
    prepare_device(device)
    if plots is not None:
        from ansm_fast.evaluation.plots import check_plots

        check_plots()
    given = image_sets(folders, images, masks, names)
    datasets = {name: FolderDataset(*places) for name, *places in given}
    for folder, option in ((cache, "--cache"), (plots, "--plots")):
        if folder is not None:
            check_apart(folder, option, *(place for _, *places in given for place in places))
    victim = load_localizer(localizer).to(device)
    made, trained = defence_columns(columns, weights, localizer, device)
    systems = Systems(
        victim,
        made,
        surrogate=load_localizer(surrogate).to(device) if surrogate is not None else None,
        stand_in=ansm_defence(load_ansm(surrogate_weights), "stand-in", device)
        if surrogate_weights is not None
        else None,
        adaptive_through=adaptive_through,
        device=device,
    )
    if surrogate is not None:
        made_on = fingerprint(systems.surrogate)
        trained = {name: replace(one, surrogate=made_on) for name, one in trained.items()}
    for name, dataset in datasets.items():
        contents = dataset.check(len(dataset) if limit is None else min(limit, len(dataset)))
        for line in [*contents.lines(), *left_out_lines(dataset.left_out)]:
            click.echo(f"{name}: {line}", err=True)
    for folder, option in ((cache, "--cache"), (plots, "--plots")):
        if folder is not None:
            prepare_folder(folder, option)
    console = Console(stderr=True, highlight=False)
    notes += [
        f"{name} was trained for another localizer (fingerprint {record.localizer}); behind this "
        "one it may do harm"
        for name, record in trained.items()
        if record.localizer not in (None, fingerprint(victim))
    ]
    for note in notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    told = len(notes)
    measured: list[Measurement] = []
    pictures: list[Path] = []
    with tempfile.TemporaryDirectory() as temporary:
        work = folders_of_sets(cache or Path(temporary), datasets)
        seconds = sum(estimate(datasets[one], systems, protocol, at) for one, at in work.items())
        images_count = sum(min(len(one), limit or len(one)) for one in datasets.values())
        console.print(
            f"{images_count} images, {len(protocol.runs())} attacks, {steps} steps (adaptive "
            f"{protocol.adaptive_restarts} × {protocol.adaptive_steps}), {len(made)} defences: "
            f"{readable(seconds)}"
        )
        advice = None if cache else "nothing is kept without --cache DIR; give it to go on from it"
        with Progress("evaluate", images_count, advice=advice) as progress:
            for name, dataset in datasets.items():
                measured.append(
                    measure(
                        dataset,
                        systems,
                        protocol,
                        work[name],
                        name=name,
                        on_start=progress.start,
                        on_progress=progress.advance,
                        on_note=notes.append,
                    )
                )
        if plots is not None:
            from ansm_fast.evaluation.plots import strips

            for one in measured:
                pictures += strips(one, datasets[one.name], systems, plots)
    notes = list(dict.fromkeys(notes))
    if pooled and len(measured) > 1:
        measured.append(pool(measured))
    rows = [row for one in measured for row in make_rows(one, trained, seed)]
    attacked = [row for one in measured for row in attacked_rows(one, made, trained, seed)]
    typed = shlex.join(["ansm-fast", *sys.argv[1:]])
    try:
        about = document(systems, trained, protocol, notes, typed)
        files.write(rows, about, typed, attacked, permuted)
    except InputError:
        print_tables(
            rows, attacked, permuted
        )  # what hours of work have found is not lost with a full disk
        raise
    if plots is not None:
        from ansm_fast.evaluation.plots import robustness

        pictures += robustness(rows, plots)
        console.print(f"{len(pictures)} pictures in {plots}")
    for note in notes[told:]:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    print_tables(rows, attacked, permuted)
