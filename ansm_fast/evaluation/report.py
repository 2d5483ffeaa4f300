"""Where an evaluation's figures go: files and the terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ansm_fast import __version__
from ansm_fast.errors import InputError
from ansm_fast.evaluation.protocol import Protocol
from ansm_fast.evaluation.provenance import Training
from ansm_fast.evaluation.rows import Row
from ansm_fast.evaluation.tables import (
    attacked_tables,
    check_markdown,
    csv_text,
    markdown,
    terminal_tables,
    write_markdown,
)
from ansm_fast.evaluation.tables.terminal import WIDTH
from ansm_fast.evaluation.targets import Systems, fingerprint
from ansm_fast.images.atomic import write_text
from ansm_fast.images.regular_files import NotAFile, read_regular


def document(
    systems: Systems,
    trained: Mapping[str, Training],
    protocol: Protocol,
    notes: Sequence[str],
    command: str,
) -> dict[str, Any]:
    """What the rows were measured with. Of every ANSM: its fingerprint, the localizer that it was
    trained for, whether another one is scored (``transferred``), and what its training saw."""
    scored = fingerprint(systems.localizer)
    marks = {one.name: one.identity.removeprefix("ansm ") for one in systems.defences}
    ansms = {
        name: {"fingerprint": marks[name]}
        | record.document()
        | {"transferred": record.localizer not in (None, scored)}
        for name, record in trained.items()
    }
    surrogate = systems.surrogate
    return {
        "command": command,
        "localizer": scored,
        "surrogate": fingerprint(surrogate) if surrogate is not None else None,
        "stand_in": systems.stand_in.identity if systems.stand_in is not None else None,
        "adaptive_through": systems.adaptive_through,
        "ansm": ansms,
        "steps": protocol.steps,
        "adaptive": {
            "steps": protocol.adaptive_steps,
            "restarts": protocol.adaptive_restarts,
            "keep": "best",
        },
        "seed": protocol.seed,
        "device": device_name(systems.device),
        "notes": list(notes),
        "version": __version__,
        "torch": torch.__version__,
    }


def device_name(device: torch.device | str) -> str:
    """ "cpu", or what a GPU calls itself."""
    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


# How the files begin that an evaluation wrote: nothing else is written over.
_BEGINNINGS = {"json": '{\n  "rows": [', "csv": "set,attack,eps,"}


def _check_writable(path: Path, option: str) -> None:
    folder = Path(os.path.realpath(path)).parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"cannot write {path}; give --{option} a file in a writable folder")
    try:
        content = read_regular(path)
    except FileNotFoundError:
        return
    except NotAFile as error:  # which a new file would take the place of
        raise InputError(f"cannot write {path}: it is {error}; give --{option} a file") from error
    except OSError as error:
        raise InputError(f"cannot use {path} ({error.strerror}); give another file") from error
    beginning = _BEGINNINGS.get(option, "").encode()
    if content.strip() and not content.startswith(beginning):
        raise InputError(
            f"{path} is no --{option} file of an earlier evaluation, and is not written over; "
            "give another file or remove this one"
        )


def _write(path: Path, text: str) -> None:
    try:
        write_text(os.path.realpath(path), text)  # a link stays one
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror}); give another file") from error


@dataclass(frozen=True)
class Files:
    """The files that were asked for."""

    json: Path | None = None
    csv: Path | None = None
    markdown: Path | None = None

    def check(self) -> None:
        """Before the work, not after it.

        Raises:
            InputError: one of them cannot be written.
        """
        options: dict[Path, str] = {}
        for option in ("json", "csv", "markdown"):
            path = getattr(self, option)
            if path is None:
                continue
            _check_writable(path, option)
            other = options.setdefault(Path(os.path.realpath(path)), option)
            if other != option:
                raise InputError(f"--{other} and --{option} name one file; give two: {path}")
        if self.markdown is not None:
            check_markdown(self.markdown)

    def write(
        self,
        rows: Sequence[Row],
        about: Mapping[str, Any],
        command: str,
        attacked: Sequence[Row] = (),
        permuted: bool = False,
    ) -> None:
        """Write all of them; ``about`` goes beside the rows of the JSON file. ``attacked`` and
        ``permuted``: as of ``markdown``."""
        if self.json is not None:
            whole = {"rows": rows, "attacked": attacked, **about}
            _write(self.json, json.dumps(whole, indent=2, allow_nan=False) + "\n")
        if self.csv is not None:
            _write(self.csv, csv_text(rows))
        if self.markdown is not None:
            write_markdown(self.markdown, markdown(rows, command, attacked, permuted))


def print_tables(rows: Sequence[Row], attacked: Sequence[Row] = (), permuted: bool = False) -> None:
    """Print the terminal tables; a file or pipe gets them at 100 columns or more."""
    terminal = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    for table in [*terminal_tables(rows, permuted), *attacked_tables(attacked)]:
        wanted = Console(width=10 * WIDTH).measure(table).maximum
        terminal.print(table, width=max(terminal.width, wanted), overflow="ignore", crop=False)
        terminal.print()
