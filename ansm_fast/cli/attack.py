"""``ansm-fast attack``: attacked versions of a folder of forgeries."""

from __future__ import annotations

from pathlib import Path

import click

from ansm_fast.cli.names import ATTACK, OBJECTIVE
from ansm_fast.cli.options import DEVICE, EPS, check_apart, prepare_device


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[DIR]")
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Instead of a folder that holds images/ and masks/.",
)
@click.option(
    "--masks",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Masks with the images' names: of two levels the brighter is forged; black is pristine.",
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@click.option(
    "--attack",
    "name",
    default="pgd",
    show_default=True,
    type=ATTACK,
)
@click.option(
    "--objective",
    default="untargeted",
    show_default=True,
    type=OBJECTIVE,
)
@click.option(
    "--norm",
    default="linf",
    show_default=True,
    type=click.Choice(["linf", "l2"]),
    help="What eps bounds: every value, or the root mean square of an image's noise.",
)
@click.option("--eps", default="4/255", show_default=True, type=EPS, help="Budget.")
@click.option(
    "--steps",
    default=20,
    show_default=True,
    type=click.IntRange(min=1),
    help="Gradient steps; queries of square.",
)
@click.option("--alpha", type=EPS, help="Step size; by default eps/4, at least eps/steps.")
@click.option(
    "--restarts",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Random starts of pgd, of which every image gets the one with the highest loss.",
)
@click.option(
    "--keep",
    default="last",
    show_default=True,
    type=click.Choice(["last", "best"]),
    help="Of pgd: the end of an ascent, or its iterate with the highest loss.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--localizer",
    metavar="NAME_OR_FILE",
    help="What is attacked: `robust` (default), `builtin`, a checkpoint or module:function. "
    "For a transferred attack, another localizer than the one that is to be fooled.",
)
@click.option(
    "--weights",
    metavar="NAME_OR_FILE",
    help="Adaptive: attack the localizer behind this ANSM; `bundled`, `robust`, `tiny`, `two_view` "
    "or a checkpoint.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many images.")
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(min=1))
@DEVICE
def command(
    folder: Path | None,
    images: Path | None,
    masks: Path | None,
    output: Path,
    name: str,
    objective: str,
    norm: str,
    eps: float,
    steps: int,
    alpha: float | None,
    restarts: int,
    keep: str,
    seed: int,
    localizer: str | None,
    weights: str | None,
    limit: int | None,
    batch_size: int,
    device: str,
) -> None:
    """Attack the localizer on every image of DIR/images, with its mask of DIR/masks.

    Writes images/, masks/, metadata.jsonl with the measured noise of each image, attack.json, a
    data card README.md and SHA256SUMS to OUTPUT. The attacked images are 8-bit PNG within eps of
    the originals. Interrupted? The same command goes on where it stopped.
    """
    import shlex
    import sys

    from ansm_fast.attacks import make_attack
    from ansm_fast.data import FolderDataset
    from ansm_fast.data.attacked_set import Work, write_attacked_set
    from ansm_fast.data.checksums import write_checksums
    from ansm_fast.data.data_card import write_data_card
    from ansm_fast.errors import InputError
    from ansm_fast.images.find import left_out_lines
    from ansm_fast.localizers import load_localizer
    from ansm_fast.models import ansm_path, load_ansm
    from ansm_fast.progress import Progress

    if folder is not None and images is None and masks is None:
        images, masks = folder / "images", folder / "masks"
    elif folder is not None or images is None or masks is None:
        raise InputError(
            "give either DIR, which holds images/ and masks/, or both --images and --masks"
        )
    dataset = FolderDataset(images, masks)
    check_apart(output, "-o", images, masks)
    try:
        attack = make_attack(
            name,
            eps=eps,
            steps=steps,
            alpha=alpha,
            objective=objective,
            norm=norm,
            seed=seed,
            restarts=restarts,
            keep=keep,
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    prepare_device(device)
    victim = load_localizer(localizer).to(device)
    fingerprint, function = victim.fingerprint, victim.__call__
    if weights is not None:
        ansm = load_ansm(ansm_path(weights, localizer)).to(device)
        if ansm.trained_for not in ("", victim.fingerprint):
            click.echo(
                "warning: these weights were trained for another localizer than "
                f"{localizer or 'the default one'}; give --localizer of the one that they defend",
                err=True,
            )
        fingerprint = f"{victim.fingerprint} behind ANSM {ansm.fingerprint}"

        def function(image):  # type: ignore[no-untyped-def]
            return victim(ansm.defend(image))

    count, work = len(dataset) if limit is None else min(limit, len(dataset)), Work()
    for line in [*dataset.check(count).lines(), *left_out_lines(dataset.left_out)]:
        click.echo(line, err=True)
    with Progress("attack", count) as progress:
        write_attacked_set(
            dataset,
            function,
            attack,
            output,
            localizer_fingerprint=fingerprint,
            limit=limit,
            batch_size=batch_size,
            device=device,
            on_progress=progress.advance,
            work=work,
        )
    try:
        write_data_card(output, shlex.join(["ansm-fast", *sys.argv[1:]]))
        write_checksums(output)
    except OSError as error:
        raise InputError(
            f"cannot write to {error.filename or output} ({error.strerror or error}); the attacked "
            "images are complete: mend it and give the same command"
        ) from error
    click.echo(f"{count} attacked images in {output}")
    if work.stuck:
        click.echo(
            f"note: the gradient of {work.stuck} of {work.images} images was 0 at every step; they "
            f'are the attack\'s start, see "gradient" in {output / "metadata.jsonl"}',
            err=True,
        )
    if work.images:
        click.echo(
            f"{work.images} made now: {work.forwards / work.images:.1f} forwards, "
            f"{work.backwards / work.images:.1f} backwards and "
            f"{1000 * work.seconds / work.images:.0f} ms an image; noise and card: "
            f"{output / 'README.md'}"
        )
