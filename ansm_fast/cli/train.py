"""``ansm-fast train localizer|ansm``: a config file and a seed in, a checkpoint out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ansm_fast.errors import InputError


@click.group()
def command() -> None:
    """Train a localizer or an ANSM from a config file.

    Interrupted? The same command goes on from the last saved state in OUTPUT. With --processes 2
    each of two processes takes half of every batch; over several machines torchrun starts them:
    torchrun --nnodes 2 ... -m ansm_fast.cli.main train ...
    """


_CONFIGS = Path(__file__).parent.parent / "training" / "configs"


def _read(
    kind: str, config: Path | None, overrides: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration with what --set changes, and which of its fields that were."""
    from ansm_fast.training.config import MODELS
    from ansm_fast.training.overrides import apply_override
    from ansm_fast.training.yaml_file import read_yaml

    path = config or _CONFIGS / f"{kind}.yaml"
    values = read_yaml(path, f"configs that work are in {_CONFIGS}")
    found = values.get("kind") if isinstance(values, dict) else None
    if not isinstance(values, dict) or found != kind:
        other = f"; ansm-fast train {found} takes it" if str(found) in MODELS else ""
        raise InputError(f"{path} is not a config of kind {kind!r}{other or '; give one that is'}")
    given = {apply_override(values, text, MODELS[kind]): text for text in overrides}
    if values["kind"] != kind:
        raise InputError(f"--set {given['kind']}: kind must be {kind} here; leave it out")
    return values, given


def _launch(
    kind: str, config: Path | None, output: Path, overrides: tuple[str, ...], processes: int
) -> None:
    from ansm_fast.training.launch import train_in_processes

    arguments = ["train", kind, "-o", str(output)]
    if config is not None:
        arguments += ["--config", str(config)]
    for override in overrides:
        arguments += ["--set", override]
    sys.exit(train_in_processes(arguments, processes))


def _run(
    kind: str, config: Path | None, output: Path, overrides: tuple[str, ...], processes: int
) -> None:
    from ansm_fast.training.config import LocalizerRun, parse_run

    values, given = _read(kind, config, overrides)
    run = parse_run(values, str(config or f"{kind}.yaml"), given)

    if processes > 1:
        if "WORLD_SIZE" in os.environ:
            raise InputError(
                "--processes is for a command that no launcher has started; leave it out under "
                "torchrun or accelerate launch"
            )
        from ansm_fast.training.processes import check_batch_sizes
        from ansm_fast.training.resume import check_same_run

        # Before they are started, and once.
        check_batch_sizes(run.batch_sizes(), run.accumulate, processes)
        check_same_run(output, run.settings())
        _launch(kind, config, output, overrides, processes)

    import torch

    if run.threads:
        torch.set_num_threads(run.threads)
    output.mkdir(parents=True, exist_ok=True)  # an unusable one shows now, not after the data
    if not os.access(output, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {output}; give another folder to -o")
    if isinstance(run, LocalizerRun):
        from ansm_fast.training.localizer import train_localizer

        path = train_localizer(run, output)
    else:
        from ansm_fast.training.ansm import train_ansm

        path = train_ansm(run, output)
    if os.environ.get("RANK", "0") == "0":  # one of several processes speaks for all
        click.echo(f"checkpoint {path}\nmetrics    {output / 'metrics.jsonl'}")


def _print_fields(kind: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def show(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
        if wanted:
            from ansm_fast.training.config import MODELS
            from ansm_fast.training.field_table import field_text

            click.echo(field_text(MODELS[kind]), nl=False)
            context.exit()

    return show


def _training_command(kind: str, text: str) -> None:
    @command.command(kind, help=text)
    @click.option(
        "--config",
        type=click.Path(path_type=Path),
        help="YAML file; the one behind the bundled weights by default.",
    )
    @click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
    @click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a field, e.g. optimizer.lr=1e-3 or attacks.0.name=pgd; repeatable.",
    )
    @click.option(
        "--fields",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_print_fields(kind),
        help="Print the fields of a config, their range, default and meaning, and exit.",
    )
    @click.option(
        "--processes",
        default=1,
        show_default=True,
        type=click.IntRange(min=1),
        help="Processes on this machine that share every batch: one for each GPU.",
    )
    def subcommand(
        config: Path | None, output: Path, overrides: tuple[str, ...], processes: int
    ) -> None:
        _run(kind, config, output, overrides, processes)


_training_command("localizer", "Train the built-in localizer on forgeries with masks.")
_training_command("ansm", "Train an ANSM for a frozen localizer: FFA, then MgR.")
