"""Entry point of ``ansm-fast``; maps each subcommand to the file that holds it."""

from __future__ import annotations

import importlib
import sys

import click

from ansm_fast.errors import InputError

# Subcommand -> (module holding `command`, one-line help). Modules are imported on use, so that
# `ansm-fast --help` does not wait for torch.
_COMMANDS = {
    "defend": ("ansm_fast.cli.defend", "Defend images or whole folders against adversarial noise."),
    "evaluate": ("ansm_fast.cli.evaluate", "Measure a localizer with and without the defence."),
    "attack": ("ansm_fast.cli.attack", "Write attacked versions of a folder of forgeries."),
    "data": ("ansm_fast.cli.data", "Synthesize forgeries; check, pack and unpack attacked sets."),
    "train": ("ansm_fast.cli.train", "Train a localizer or an ANSM from a config file."),
    "doctor": ("ansm_fast.cli.doctor", "Show every op and backend, and why one is not available."),
}


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
def cli() -> None:
    """Defend image-forgery localization against adversarial noise."""


def _complain(error: click.ClickException) -> None:
    """Click's own complaint in one line; where it is the whole help text, that."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if context is None or message == context.get_help():
        error.show()
        return
    text = " ".join(message.split()).rstrip(".")
    click.echo(f"ansm-fast: error: {text}; see {context.command_path} --help", err=True)


def main() -> None:
    """Run the command line; bad input ends with one line on stderr and status 2."""
    try:
        sys.exit(cli(prog_name="ansm-fast", standalone_mode=False))
    except InputError as error:
        click.echo(f"ansm-fast: error: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        _complain(error)
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except RuntimeError as error:
        # Not imported for this: a command that met it has it.
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).splitlines()[0].partition(". ")[0]
        click.echo(
            f"ansm-fast: error: the device has too little memory ({reason}); give smaller batches "
            "or another device; what was complete is kept",
            err=True,
        )
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        click.echo(
            f"ansm-fast: error: cannot use {error.filename} ({error.strerror}); "
            "give another path or mend this one",
            err=True,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
