"""How every tool is told what to run: ``--ops NAME ...``, ``--quick``, ``--json``.

``--ops`` takes the names of op folders and, where a tool knows them, those of functions, operators
or mistakes: a folder's name stands for all that it holds, unless one of these has it, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

from tools.ops import OPS


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as it stands there."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_ops(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ops", nargs="+", default=[], metavar="NAME", help="these alone")


def chosen(
    parser: argparse.ArgumentParser, names: Iterable[str], among: Mapping[str, str]
) -> list[str]:
    """Of ``among``, which gives the op of each, those that are named or whose op is; by default
    all."""
    names = set(names)
    folders = names - among.keys()
    if unknown := folders - set(among.values()):
        known = dict.fromkeys([*among.values(), *among])
        parser.error(f"there is no {', '.join(sorted(unknown))}; --ops takes {', '.join(known)}")
    return [name for name, op in among.items() if not names or name in names or op in folders]


def chosen_ops(parser: argparse.ArgumentParser, names: Iterable[str]) -> list[str]:
    """Of the op folders."""
    return chosen(parser, names, {op: op for op in OPS})


def ops_of(description: str | None) -> list[str]:
    """The op folders that the command line of a tool names which has no other arguments."""
    parser = parser_of(description)
    add_ops(parser)
    return chosen_ops(parser, parser.parse_args().ops)
