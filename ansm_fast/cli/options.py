"""Options that several subcommands share."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import click

from ansm_fast.errors import InputError


class EpsType(click.ParamType):
    """A budget in units of the image: "4/255" or "0.0157"."""

    name = "eps"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            eps = float(Fraction(str(value)))
        except (ValueError, ZeroDivisionError) as error:
            raise InputError(
                f"eps must be a number like 4/255 or 0.0157, got {str(value)!r}"
            ) from error
        if not 0 <= eps <= 1:
            raise InputError(f"eps must be in [0, 1], got {value}; four grey levels are 4/255")
        return eps


EPS = EpsType()


def split_names(value: str, known: tuple[str, ...], option: str) -> list[str]:
    """A comma-separated list of known names, each once, in the order given."""
    names = [name.strip() for name in value.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise InputError(f"{option} must be of {', '.join(known)}, got {name!r}")
    if not names:
        raise InputError(f"{option} is empty; give at least one of {', '.join(known)}")
    return list(dict.fromkeys(names))
