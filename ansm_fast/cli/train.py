"""``ansm-fast train localizer|ansm``: a config file and a seed in, a checkpoint out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ansm_fast.errors import InputError


@click.group()
def command() -> None:
    """Train a localizer or an ANSM from a config file.

    Interrupted? The same command goes on from the last saved state in OUTPUT. Two processes, each
    with half of every batch: torchrun --nproc-per-node 2 -m ansm_fast.cli.main train ...
    """


def _settings(kind: str, config: Path | None, overrides: tuple[str, ...]) -> dict[str, Any]:
    import yaml

    path = config or Path(__file__).parent.parent / "training" / "configs" / f"{kind}.yaml"
    if not path.is_file():
        raise InputError(f"no such config file: {path}; see ansm_fast/training/configs")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(
            f"{path} is not valid YAML ({str(error).splitlines()[0]}); see "
            "ansm_fast/training/configs for ones that are"
        ) from error
    if not isinstance(values, dict) or values.get("kind") != kind:
        raise InputError(f"{path} is not a config of kind {kind!r}; give one that is")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise InputError(f"--set wants KEY=VALUE, got {override!r}")
        target = values
        *parents, last = key.split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = yaml.safe_load(value)
    return values


def _run(kind: str, config: Path | None, output: Path, overrides: tuple[str, ...]) -> None:
    import torch

    from ansm_fast.training.config import LocalizerRun, parse_run

    values = _settings(kind, config, overrides)
    run = parse_run(values, str(config or f"{kind}.yaml"))
    if run.threads:
        torch.set_num_threads(run.threads)
    settings = run.model_dump(mode="json")
    output.mkdir(parents=True, exist_ok=True)  # an unusable one shows now, not after the data
    if isinstance(run, LocalizerRun):
        from ansm_fast.training.localizer import train_localizer

        path = train_localizer(run, output, settings)
    else:
        from ansm_fast.training.ansm import train_ansm

        path = train_ansm(run, output, settings)
    if os.environ.get("RANK", "0") == "0":  # one of several processes speaks for all
        click.echo(f"checkpoint {path}\nmetrics    {output / 'metrics.jsonl'}")


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
        help="Override a field, e.g. optimizer.lr=1e-3; repeatable.",
    )
    def subcommand(config: Path | None, output: Path, overrides: tuple[str, ...]) -> None:
        _run(kind, config, output, overrides)


_training_command("localizer", "Train the built-in localizer on forgeries with masks.")
_training_command("ansm", "Train an ANSM for a frozen localizer: FFA, then MgR.")
