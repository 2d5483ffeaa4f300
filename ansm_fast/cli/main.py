"""Entry point of ``ansm-fast``; maps each subcommand to the file that holds it."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import click

from ansm_fast.cli.failures import explain
from ansm_fast.cli.signals import ending
from ansm_fast.cli.speaker import speaks
from ansm_fast.errors import SlowBackendWarning
from ansm_fast.printable import one_line

# Subcommand -> (module holding `command`, one-line help). Modules are imported on use, so that
# `ansm-fast --help` does not wait for torch.
_COMMANDS = {
    "defend": ("ansm_fast.cli.defend", "Defend images or whole folders against adversarial noise."),
    "evaluate": ("ansm_fast.cli.evaluate", "Measure a localizer with and without the defence."),
    "attack": ("ansm_fast.cli.attack", "Write attacked versions of a folder of forgeries."),
    "data": ("ansm_fast.cli.data", "Synthesize forgeries; check attacked sets."),
    "train": ("ansm_fast.cli.train", "Train a localizer or an ANSM from a config file."),
    "export": ("ansm_fast.cli.export", "Write an ANSM as ONNX or as a torch.export program."),
    "doctor": ("ansm_fast.cli.doctor", "Show every op and backend, and why one is not available."),
}
_DEBUG = "ANSM_FAST_DEBUG"
# Whoever gives a command can do nothing about it; of its successor PyTorch has no public one yet.
_FOR_DEVELOPERS = "torch.distributed.nn.functional.all_reduce is deprecated"


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        return importlib.import_module(_COMMANDS[cmd_name][0]).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ansm-fast", prog_name="ansm-fast")
@click.option(
    "--debug",
    is_flag=True,
    help=f"With the traceback of whatever fails; {_DEBUG}=1 does the same.",
)
def cli(debug: bool) -> None:
    """Defend image-forgery localization against adversarial noise."""
    if debug:
        os.environ[_DEBUG] = "1"  # also for the processes that a command starts


def _wants_traceback() -> bool:
    return os.environ.get(_DEBUG, "") not in ("", "0")


@contextlib.contextmanager
def _short_warnings() -> Iterator[None]:
    """A warning of ours takes one line."""

    def warn(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, SlowBackendWarning):
            click.echo(f"ansm-fast: warning: {message}", err=True)
        elif not str(message).startswith(_FOR_DEVELOPERS):
            shown(message, category, *where, **more)

    shown, warnings.showwarning = warnings.showwarning, warn
    try:
        yield
    finally:
        warnings.showwarning = shown


def main() -> None:
    """Run the command line; whatever fails ends with one line on stderr (see ``failures``)."""
    # OpenCV's own thread pool fights with torch's for the same cores, and what decoders say of a
    # damaged file comes beside the line that names the file. Set before they are imported.
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    with contextlib.suppress(AttributeError):  # a stdout that somebody has replaced
        # Names of files may hold what no text can; in JSON this is its own notation.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    received: list[int] = []
    try:
        with ending() as received, _short_warnings():
            code = cli(prog_name="ansm-fast", standalone_mode=False)
    except SystemExit:
        raise
    except BaseException as error:
        if _wants_traceback():
            traceback.print_exception(error)
        line, code = explain(error, received)
        if line is not None and speaks(error):
            with contextlib.suppress(OSError):  # the terminal is gone
                click.echo(one_line(line), err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
