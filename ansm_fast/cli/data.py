"""``ansm-fast data``: synthetic forgeries made, attacked sets checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ansm_fast.cli.options import check_apart
from ansm_fast.errors import InputError

if TYPE_CHECKING:
    from ansm_fast.data.split import Side

_REMOVED = {
    "pack": "a set is a folder: tar -cf SET.tar DIR packs it",
    "unpack": "tar -xf SET.tar gives the folder back, and ansm-fast data verify DIR checks it",
}


class _DataGroup(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in _REMOVED:
            raise InputError(f"ansm-fast data {args[0]} was removed; {_REMOVED[args[0]]}")
        return super().resolve_command(ctx, args)


@click.group(cls=_DataGroup)
def command() -> None:
    """Make data for training and evaluation, and check it."""


@command.command()
@click.argument("photographs", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@click.option("-n", "--count", default=1000, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--validation",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="Make so many for validation too, of photographs of their own: OUTPUT/train and "
    "OUTPUT/validation.",
)
@click.option("--size", default=256, show_default=True, type=click.IntRange(min=64))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--pristine", default=0.15, show_default=True, type=click.FloatRange(0, 1))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1))
def synthesize(
    photographs: Path,
    output: Path,
    count: int,
    validation: int | None,
    size: int,
    seed: int,
    pristine: float,
    workers: int,
) -> None:
    """Write COUNT splices, copy-moves, removals and pristine crops of PHOTOGRAPHS.

    With --validation, a tenth of the photographs is kept for it, told by their content: training
    and validation never share one.

    Interrupted? The same command goes on where it stopped.
    """
    from dataclasses import replace

    from ansm_fast.data.synthesis import ForgeryMix
    from ansm_fast.data.synthesis import synthesize as write
    from ansm_fast.progress import Progress

    # A run that goes on, or makes more, would take what it has written for photographs.
    check_apart(output, "-o", photographs)
    default = ForgeryMix()
    forged = default.splice + default.copy_move + default.removal
    scale = (1 - pristine) / forged
    mix = replace(
        default,
        splice=default.splice * scale,
        copy_move=default.copy_move * scale,
        removal=default.removal * scale,
        pristine=pristine,
    )
    parts: list[tuple[Path, int, int, Side | None]] = [(output, count, seed, None)]
    if validation is not None:
        parts = [
            (output / "train", count, seed, "train"),
            (output / "validation", validation, seed + 1, "validation"),
        ]
    for folder, pieces, its_seed, side in parts:
        with Progress("synthesize", pieces, unit="forgeries") as progress:
            write(
                photographs,
                folder,
                pieces,
                seed=its_seed,
                size=size,
                mix=mix,
                workers=workers,
                side=side,
                on_progress=progress.advance,
                on_note=lambda line: click.echo(line, err=True),
            )
        click.echo(f"{pieces} forgeries in {folder}")


@command.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
def verify(folder: Path) -> None:
    """Check every file of a set against its SHA256SUMS."""
    from ansm_fast.data.checksums import verify_checksums

    click.echo(f"{verify_checksums(folder)} files of {folder} are as they were written")
