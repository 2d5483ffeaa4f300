"""``--set KEY=VALUE``: single fields of a configuration, and items of its lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from ansm_fast.errors import InputError
from ansm_fast.training.field_table import default_at
from ansm_fast.training.yaml_file import parse_yaml

_WANTED = "give --set KEY=VALUE, e.g. --set optimizer.lr=1e-3 or --set attacks.0.name=pgd"


def _item(given: str, items: list[Any], part: str, path: str) -> int:
    """The position that ``part`` names in a list."""
    count = len(items)
    try:
        position = int(part)
    except ValueError:
        position = count
    if -count <= position < count:
        return position
    if not count:
        raise InputError(
            f"--set {given}: {path} is an empty list; give the whole list, --set '{path}=[...]'"
        )
    raise InputError(
        f"--set {given}: {path} has {count} items; give a number from 0 to {count - 1} (or -1 for "
        f"the last) after it, got {part!r}"
    )


def _below(target: Any, path: Sequence[str], given: str, model: type[BaseModel]) -> Any:
    """What ``target`` holds at the end of ``path``; made of the default if it isn't given."""
    place: Any = int(path[-1]) if isinstance(target, list) else path[-1]
    if isinstance(target, dict) and target.get(place) is None:
        default = default_at(model, path)
        target[place] = {} if default is None else default
    found = target[place]
    if not isinstance(found, dict | list):
        raise InputError(
            f"--set {given}: {'.'.join(path)} is {str(found)[:80]!r} and has no fields of its own; "
            f"give {'.'.join(path)} a value"
        )
    return found


def apply_override(values: dict[str, Any], given: str, model: type[BaseModel]) -> str:
    """Set one field in place; returns its path, items numbered from the front.

    Args:
        values: the configuration as it was read.
        given: KEY=VALUE; KEY is dotted, list items are numbered from 0 (-1: the last), VALUE is
            YAML.
        model: of the configuration, for the defaults of what it doesn't hold.

    Raises:
        InputError: malformed, no such item, or a field below a plain value.
    """
    key, equals, text = given.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(path):
        raise InputError(f"--set wants KEY=VALUE, got {given!r}; {_WANTED}")
    value = parse_yaml(text, f"--set {given}: the value", "quote what is meant literally")
    target: Any = values
    for depth in range(len(path)):
        if isinstance(target, list):
            position = _item(given, target, path[depth], ".".join(path[:depth]))
            path[depth] = str(position % len(target))
        if depth < len(path) - 1:
            target = _below(target, path[: depth + 1], given, model)
    target[int(path[-1]) if isinstance(target, list) else path[-1]] = value
    return ".".join(path)
