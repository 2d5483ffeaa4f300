"""Options of a command under headings, in its help."""

from __future__ import annotations

from typing import Any

import click


class GroupedCommand(click.Command):
    """A command of many options.

    Args:
        groups: names of parameters under each heading; the others stand under "Options".
    """

    def __init__(self, *args: Any, groups: dict[str, tuple[str, ...]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        lines = {
            parameter.name: record
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option)
            and (record := parameter.get_help_record(ctx)) is not None
        }
        for heading, names in self.groups.items():
            with formatter.section(heading):
                formatter.write_dl([lines.pop(name) for name in names])
        with formatter.section("Options"):
            formatter.write_dl(list(lines.values()))
