"""``ansm-fast train localizer|ansm``: a config file and a seed in, a checkpoint out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ansm_fast.cli.failures import command_line
from ansm_fast.cli.train_arguments import PRESETS, Arguments, document, parse, presets
from ansm_fast.errors import InputError

if TYPE_CHECKING:
    from ansm_fast.training.config import ANSMRun, LocalizerRun


@click.group()
def command() -> None:
    """Train a localizer or an ANSM from a config file.

    Interrupted? The same command goes on from the last saved state in OUTPUT. With --processes 2
    each of two processes takes half of every batch; over several machines torchrun starts them:
    torchrun --nnodes 2 ... -m ansm_fast.cli.main train ...
    """


def _run(arguments: Arguments) -> None:
    from ansm_fast.cli.recipe import conclude, look
    from ansm_fast.training.config import LocalizerRun
    from ansm_fast.training.processes import check_batch_sizes
    from ansm_fast.training.resume import STATE, check_same_run

    run, filled = parse(arguments)
    if arguments.print_config:
        click.echo(document(run, filled), nl=False)
        return
    output = arguments.output
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output'", click.get_current_context())
    processes = arguments.processes
    if processes > 1 and "WORLD_SIZE" in os.environ:
        raise InputError(
            "--processes is for a command that no launcher has started; leave it out under "
            "torchrun or accelerate launch"
        )
    # Before they are started, and once.
    check_batch_sizes(run.batch_sizes(), run.accumulate, processes if processes > 1 else None)
    check_same_run(output, run.settings())

    import torch

    if run.threads:
        torch.set_num_threads(run.threads)
    reports = not isinstance(run, LocalizerRun) and run.report and _leads()
    if processes == 1 or reports:
        output.mkdir(parents=True, exist_ok=True)  # an unusable one shows now, not after the data
        if not os.access(output, os.W_OK | os.X_OK):
            raise InputError(f"cannot write to {output}; give another folder to -o")
    if reports and not (output / STATE).exists():
        assert not isinstance(run, LocalizerRun)
        look(run, output, presets(arguments))
    _train(run, output, arguments)
    if reports:
        assert not isinstance(run, LocalizerRun)
        conclude(run, output, arguments.used_preset(), command_line())


def _leads() -> bool:
    """One of several processes speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def _train(run: LocalizerRun | ANSMRun, output: Path, arguments: Arguments) -> None:
    from ansm_fast.training.config import LocalizerRun

    if arguments.processes > 1:
        from ansm_fast.training.launch import train_in_processes

        code = train_in_processes(arguments.of_a_process(), arguments.processes)
        if code:
            sys.exit(code)
        return
    if isinstance(run, LocalizerRun):
        from ansm_fast.training.localizer import train_localizer

        path = train_localizer(run, output)
    else:
        from ansm_fast.training.ansm import train_ansm

        path = train_ansm(run, output)
    if _leads():
        click.echo(f"checkpoint {path}\nmetrics    {output / 'metrics.jsonl'}")


def _print_fields(kind: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def show(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
        if wanted:
            from ansm_fast.training.config import MODELS
            from ansm_fast.training.field_table import field_text

            click.echo(field_text(MODELS[kind]), nl=False)
            context.exit()

    return show


_SHARED = (
    click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the run."),
    click.option(
        "--data",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Forgeries: images/ and masks/, of which a tenth is kept for the validation, or "
        "train/ and validation/ with these in each.",
    ),
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        help="By default auto: a GPU where there is one.",
    ),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a field, e.g. optimizer.lr=1e-3 or attacks.0.name=pgd; repeatable.",
    ),
    click.option("--print-config", is_flag=True, help="Print the whole config, and exit."),
    click.option(
        "--processes",
        default=1,
        show_default=True,
        type=click.IntRange(min=1),
        help="Processes on this machine that share every batch: one for each GPU.",
    ),
)


def _options(kind: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare the options of both trainings."""
    names = ", ".join(f"`{name}`" for name in (*PRESETS, "ansm") if kind == "ansm") or "`localizer`"
    config = click.option(
        "--config",
        metavar="NAME_OR_FILE",
        help=f"YAML file, or one in the package: {names}.",
    )
    fields = click.option(
        "--fields",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_print_fields(kind),
        help="Print the fields of a config, their range, default and meaning, and exit.",
    )

    def declare(function: Callable[..., None]) -> Callable[..., None]:
        for option in reversed((config, *_SHARED, fields)):
            function = option(function)
        return function

    return declare


@command.command("localizer")
@_options("localizer")
def localizer(**given: Any) -> None:
    """Train a built-in localizer on forgeries with masks."""
    _run(Arguments("localizer", **given))


@command.command("ansm")
@click.option(
    "--localizer",
    metavar="NAME_OR_FILE",
    help="Localizer to defend: `robust`, `builtin`, a checkpoint or module:function.",
)
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    help="How long: each takes several times as long as the one before; by default standard.",
)
@_options("ansm")
def ansm(**given: Any) -> None:
    """Train an ANSM for a frozen localizer: detection, FFA, then MgR.

    It looks at the localizer first and tells how long it will take, and ends with a table and a
    verdict on the validation images.
    """
    if given["config"] is not None and given["preset"] is not None:
        raise InputError(
            f"--config {given['config']} and --preset {given['preset']} are both given; leave one "
            "out"
        )
    _run(Arguments("ansm", **given))
