"""``ansm-fast export``: an ANSM for other programs, as ONNX or as a program of torch.export."""

from __future__ import annotations

from pathlib import Path

import click

from ansm_fast.cli.names import ListOption, NameList
from ansm_fast.errors import InputError

_FORMATS = (".onnx", ".pt2")


def _outputs() -> tuple[str, ...]:
    from ansm_fast.export import OUTPUTS

    return OUTPUTS


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--weights",
    metavar="NAME_OR_FILE",
    help="ANSM: `robust` (the default), `tiny`, `two_view` or a checkpoint.",
)
@click.option(
    "--outputs",
    cls=ListOption,
    type=NameList(_outputs),
    help="In the order in which they are wanted; by default the first three, as far as the ANSM "
    "has them.",
)
def command(file: Path, weights: str | None, outputs: list[str] | None) -> None:
    """Write an ANSM to FILE, as ONNX (.onnx) or as a program of torch.export (.pt2).

    It takes images (B, 3, H, W), float32 RGB in [0, 1], of any batch and size, and gives the
    defended ones, the map of what was attacked and its mean, the attack score.
    """
    if file.suffix.lower() not in _FORMATS:
        raise InputError(
            f"FILE must end in {' or '.join(_FORMATS)}, got {file}; the ending tells the format"
        )
    if file.exists():
        raise InputError(f"{file} is there already; give another name, or remove it")
    if not file.parent.is_dir():
        raise InputError(f"no such folder: {file.parent}; make it first")

    from ansm_fast.export import export_onnx, save_program
    from ansm_fast.models import ansm_path, load_ansm

    ansm = load_ansm(ansm_path(weights))
    write = export_onnx if file.suffix.lower() == ".onnx" else save_program
    write(ansm, file, outputs=outputs)
    click.echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
