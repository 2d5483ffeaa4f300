"""Options whose values are names that a registry knows: attacks, objectives, defences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from ansm_fast.errors import InputError


class Names(click.ParamType):
    """One of the names that ``find`` gives, which is asked when a value or the help needs them:
    what knows them may import torch, which the command's module must not wait for.

    Args:
        removed: names of earlier versions, and what serves instead.
    """

    name = "name"

    def __init__(
        self,
        find: Callable[[], Sequence[str]],
        removed: Callable[[], Mapping[str, str]] = lambda: {},
    ) -> None:
        self.find, self.removed = find, removed

    def get_metavar(self, param: click.Parameter, ctx: Any = None) -> str:
        return f"[{'|'.join(self.find())}]"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value in self.removed():
            self.fail(f"{value!r} was removed; use {self.removed()[value]!r}", param, ctx)
        if value not in self.find():
            known = ", ".join(map(repr, self.find()))
            self.fail(f"{value!r} is not one of {known}", param, ctx)
        return value


class NameList(Names):
    """Several of them with commas between, each once, in the order given."""

    name = "list"

    def get_metavar(self, param: click.Parameter, ctx: Any = None) -> str:
        return "LIST"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[str]:
        if isinstance(value, list):
            return value
        option = param.opts[0]
        names = [name.strip() for name in str(value).split(",") if name.strip()]
        if not names:
            raise InputError(f"{option} is empty; give at least one of {', '.join(self.find())}")
        for name in names:
            if name in self.removed():
                raise InputError(f"{option}: {name!r} was removed; use {self.removed()[name]!r}")
            if name not in self.find():
                raise InputError(f"{option} must be of {', '.join(self.find())}, got {name!r}")
        return list(dict.fromkeys(names))


class ListOption(click.Option):
    """An option of ``NameList``, whose help begins with the names."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        if record is None or not isinstance(self.type, NameList):
            return record
        return record[0], f"Of {', '.join(self.type.find())}. {record[1]}"


def _attacks() -> Sequence[str]:
    from ansm_fast.attacks import ATTACKS

    return ATTACKS


def _objectives() -> Sequence[str]:
    from ansm_fast.attacks import OBJECTIVES

    return OBJECTIVES


def _removed_attacks() -> Mapping[str, str]:
    from ansm_fast.attacks.registry import REMOVED

    return REMOVED


def _evaluated_attacks() -> Sequence[str]:
    from ansm_fast.evaluation import ATTACKS

    return ATTACKS


def _defences() -> Sequence[str]:
    from ansm_fast.evaluation import DEFENCES

    return DEFENCES


ATTACK = Names(_attacks, _removed_attacks)
OBJECTIVE = Names(_objectives)
EVALUATED_ATTACKS = NameList(_evaluated_attacks, _removed_attacks)
DEFENCES = NameList(_defences)
