"""``ansm-fast evaluate``: a localizer under attack, with and without defences."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from ansm_fast.cli.options import EPS, check_apart, split_names
from ansm_fast.errors import InputError


def _write_json(path: Path, document: dict[str, Any]) -> None:
    from ansm_fast.data.atomic import write_text

    try:
        write_text(path, json.dumps(document, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror}); give another file") from error


def _check_writable(path: Path, option: str) -> None:
    """Before the work, not after it."""
    folder = path.resolve().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"cannot write {path}; give {option} a file in a writable folder")


@click.command()
@click.option("--images", required=True, type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--masks",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Masks with the images' names; bright is forged, all dark is pristine.",
)
@click.option(
    "--attacks",
    default="none,pgd,fgsm,mifgsm,hide,wrong-mask",
    show_default=True,
    metavar="LIST",
    help="Of none, pgd, fgsm, bim, mifgsm, hide, wrong-mask, noise.",
)
@click.option("--eps", default="4/255", show_default=True, help="Budgets, separated by commas.")
@click.option("--steps", default=20, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--defences",
    default="none,jpeg,median,ansm",
    show_default=True,
    metavar="LIST",
)
@click.option("--localizer", metavar="NAME_OR_FILE", help="`builtin` (default) or a checkpoint.")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="ANSM checkpoint; the bundled `tiny` one by default.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many images.")
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep the attacked images here; an interrupted or repeated run goes on from them.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--markdown",
    "markdown_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the tables; into a document with the marks <!-- table:evaluation -->.",
)
def command(
    images: Path,
    masks: Path,
    attacks: str,
    eps: str,
    steps: int,
    defences: str,
    localizer: str | None,
    weights: Path | None,
    limit: int | None,
    batch_size: int,
    seed: int,
    cache: Path | None,
    json_file: Path | None,
    markdown_file: Path | None,
) -> None:
    """Attack a localizer and measure it with each defence.

    F1 and IoU (threshold 0.5) and AUC are means over forged images; pristine images give the mean
    area that is marked all the same.
    """
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from ansm_fast import __version__
    from ansm_fast.data import FolderDataset
    from ansm_fast.evaluation import ATTACKS, DEFENCES, Protocol, evaluate, markdown
    from ansm_fast.evaluation.tables import check_markdown, write_markdown
    from ansm_fast.inference.files import prepare_folder
    from ansm_fast.localizers import load_localizer
    from ansm_fast.models import load_ansm

    protocol = Protocol(
        attacks=split_names(attacks, tuple(ATTACKS), "--attacks"),
        eps=[EPS.convert(part.strip(), None, None) for part in eps.split(",")],
        steps=steps,
        defences=split_names(defences, DEFENCES, "--defences"),
        seed=seed,
        limit=limit,
        batch_size=batch_size,
    )
    for path, option in ((json_file, "--json"), (markdown_file, "--markdown")):
        if path is not None:
            _check_writable(path, option)
    if markdown_file is not None:
        check_markdown(markdown_file)
    dataset = FolderDataset(images, masks)
    if cache is not None:
        check_apart(cache, "--cache", images, masks)
    judge = load_localizer(localizer)
    ansm = load_ansm(weights) if "ansm" in protocol.defences else None
    if cache is not None:
        prepare_folder(cache, "--cache")
    bar = Progress(console=Console(stderr=True))
    with tempfile.TemporaryDirectory() as temporary, bar as progress:
        task = progress.add_task("")
        rows = evaluate(
            dataset,
            judge,
            ansm,
            protocol,
            cache or Path(temporary),
            on_start=lambda title, total: progress.reset(task, description=title, total=total),
            on_progress=lambda done: progress.advance(task, done),
        )
    typed = shlex.join(["ansm-fast", *sys.argv[1:]])
    text = markdown(rows, typed)
    if json_file is not None:
        document = {
            "rows": rows,
            "command": typed,
            "localizer": judge.fingerprint,
            "ansm": ansm.fingerprint if ansm is not None else None,
            "steps": steps,
            "seed": seed,
            "version": __version__,
            "torch": torch.__version__,
        }
        _write_json(json_file, document)
    if markdown_file is not None:
        write_markdown(markdown_file, text)
    click.echo(text)
