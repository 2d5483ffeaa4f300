"""Options that several subcommands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar

import click

from ansm_fast.errors import InputError


class EpsType(click.ParamType):
    """A budget or step in units of the image: "4/255" or "0.0157"."""

    name = "eps"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        name = getattr(param, "name", None) or "eps"
        try:
            budget = float(Fraction(str(value)))
        except (ValueError, ZeroDivisionError, OverflowError) as error:
            raise InputError(
                f"{name} must be a number like 4/255 or 0.0157, got {str(value)!r}"
            ) from error
        if not 0 <= budget <= 1:
            raise InputError(f"{name} must be in [0, 1], got {value}; four grey levels are 4/255")
        return budget


EPS = EpsType()
F = TypeVar("F", bound=Callable[..., Any])


def check_apart(output: Path, option: str, *inputs: Path) -> None:
    """Raise InputError if results below ``output`` would lie among the originals."""
    for folder in inputs:
        for place in (output, output / "images", output / "masks"):
            if Path(os.path.realpath(place)).is_relative_to(os.path.realpath(folder)):
                raise InputError(
                    f"{output} holds the originals or lies among them; "
                    f"give another folder to {option}"
                )


def removed_option(name: str, instead: str) -> Callable[[F], F]:
    """Declare an option of an earlier version, not shown any more, whose error says what serves."""

    def refuse(_context: click.Context, _option: click.Parameter, value: str | None) -> None:
        if value is not None:
            raise InputError(f"{name} was removed; {instead}")

    return click.option(name, hidden=True, expose_value=False, is_eager=True, callback=refuse)


DEVICE = click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")


DEVICE_OR_AUTO = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="cpu, cuda, cuda:1, ...; auto: a GPU if there is one.",
)


def chosen_device(device: str) -> str:
    """The device that ``auto`` stands for; any other one as it is.

    Raises:
        InputError: as ``check_device``.
    """
    import torch

    if device == "auto":
        found = (
            torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        )
        device = "cpu" if found is None or found.type == "mps" else found.type
    check_device(device)
    return device


def check_device(device: str) -> None:
    """Raise InputError unless numbers can be put on ``device`` and read back."""
    import torch

    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = shorten(str(error).splitlines()[0], 100, placeholder=" ...")
        raise InputError(f"device {device!r} is not available ({reason}); try cpu") from error


def prepare_device(device: str) -> None:
    """``check_device``, and convolutions in float32 to its full: rounded to ten bits, as a GPU may,
    gradients would make other attacks than a CPU's, and other figures."""
    import torch

    check_device(device)
    torch.backends.cudnn.allow_tf32 = False
