"""The fields of a configuration in words: path, type, range, default and meaning, from its model.

What ``ansm-fast train ansm --fields`` prints and what docs/training_fields.md holds.
"""

from __future__ import annotations

import difflib
import json
import textwrap
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from ansm_fast.training.fields import OneOf

_NAMES = {int: "integer", float: "number", bool: "true or false", str: "text", Path: "path"}
_UNIONS = (Union, types.UnionType)
_WIDTH = 100
_REQUIRED = object()


@dataclass(frozen=True)
class FieldRow:
    """One field; ``path`` is dotted, with N for the number of a list's item."""

    path: str
    kind: str
    default: str
    meaning: str

    def __str__(self) -> str:
        default = f" = {self.default}" if self.default else ""
        parts = [(f"{self.path}: {self.kind}{default}", ""), (self.meaning, "    ")]
        return "\n".join(
            line
            for text, indent in parts
            for line in textwrap.wrap(
                text, _WIDTH, initial_indent=indent, subsequent_indent=indent or "        "
            )
        )


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the configurations that an annotation is, or is a list of, or may be: several of a
    union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in models_in(inner)]


def _is_list(annotation: Any) -> bool:
    if get_origin(annotation) in _UNIONS:
        return any(_is_list(inner) for inner in get_args(annotation))
    return get_origin(annotation) in (list, tuple)


def _range(metadata: Sequence[Any]) -> str:
    bounds: dict[str, Any] = {}
    for item in metadata:
        for part in (item, *getattr(item, "metadata", ())):
            for name in ("gt", "ge", "lt", "le", "min_length"):
                if getattr(part, name, None) is not None:
                    bounds[name] = getattr(part, name)
    if "min_length" in bounds:
        return f", at least {bounds['min_length']}"
    number = {name: f"{bound:.4g}" for name, bound in bounds.items()}
    if "ge" in number and "le" in number:
        return f" from {number['ge']} to {number['le']}"
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    return "".join(
        f"{' and' * (position > 0)} {signs[name]} {bound}"
        for position, (name, bound) in enumerate(number.items())
    )


def _kind(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """A type and its range in words."""
    for item in metadata:
        if isinstance(item, OneOf):
            return "one of " + ", ".join(item.names)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0], inner[1:])
    if origin in _UNIONS and len(models_in(annotation)) < 2:
        return " or ".join("null" if one is type(None) else _kind(one) for one in inner)
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner)) if len(inner) > 1 else str(inner[0])
    if origin is tuple and inner[-1] is not Ellipsis:
        return f"[{', '.join(_kind(one) for one in inner)}]"
    if origin in (list, tuple):
        if models_in(inner[0]):
            return f"list{_range(metadata)}"
        return f"list of {_kind(inner[0])}{_range(metadata)}"
    if models_in(annotation):
        return "fields"
    return _NAMES[annotation] + _range(metadata)


def _default(value: Any) -> str:
    if value is _REQUIRED:
        return ""
    if isinstance(value, tuple | list) and value and isinstance(value[0], BaseModel):
        value = [one.model_dump(mode="json", exclude_unset=True) for one in value]
    return json.dumps(to_jsonable_python(value))


def field_rows(model: type[BaseModel], prefix: str = "", instance: Any = None) -> list[FieldRow]:
    """Return all fields of a configuration and of those inside it, in the order of their
    definition."""
    return list(_rows(model, prefix, instance))


def _rows(model: type[BaseModel], prefix: str, instance: Any) -> Iterator[FieldRow]:
    for name, info in model.model_fields.items():
        value = _REQUIRED if info.is_required() else info.get_default(call_default_factory=True)
        if instance is not None:
            value = getattr(instance, name)
        inner, several = models_in(info.annotation), _is_list(info.annotation)
        meaning = info.description or ""
        kind = _kind(info.annotation, info.metadata)
        if value is _REQUIRED:
            kind += ", required"
        default = "" if inner and isinstance(value, BaseModel) else _default(value)
        if len(inner) == 1:
            said = _said(inner[0])
            meaning = f"{meaning}. {said}" if meaning else said
        yield FieldRow(prefix + name, kind, default, meaning)
        below = f"{prefix}{name}.{'N.' if several else ''}"
        if len(inner) > 1:
            yield from _members(inner, info.discriminator, below, value)
        elif inner:
            yield from _rows(inner[0], below, value if isinstance(value, BaseModel) else None)


def _said(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").replace("``", "`").split())


def _members(
    models: Sequence[type[BaseModel]], discriminator: Any, prefix: str, chosen: Any
) -> Iterator[FieldRow]:
    """The fields of a union's members, each saying with which value of the discriminator."""
    tags = [get_args(model.model_fields[discriminator].annotation)[0] for model in models]
    default = _default(getattr(chosen, discriminator))
    named = list(zip(tags, models, strict=True))
    described = "; ".join(f"{tag}: {_said(model).rstrip('.')}" for tag, model in named)
    yield FieldRow(prefix + discriminator, f"one of {', '.join(tags)}", default, described)
    for tag, model in named:
        for row in _rows(model, prefix, None):
            if row.path != prefix + discriminator:
                yield replace(row, meaning=f"with {discriminator} {tag}: {row.meaning}")


def field_text(model: type[BaseModel]) -> str:
    """Return the fields of a configuration as text, one after the other."""
    return "\n".join(str(row) for row in field_rows(model)) + "\n"


def field_at(model: type[BaseModel], path: Sequence[str]) -> FieldInfo | None:
    """Return the field at a path such as ("attacks", "0", "eps"); None if there is no such."""
    within: list[type[BaseModel]] = [model]
    info: FieldInfo | None = None
    for part in path:
        if part.removeprefix("-").isdigit() and info is not None and _is_list(info.annotation):
            continue
        known = (one.model_fields[part] for one in within if part in one.model_fields)
        info = next(known, None)
        if info is None:
            return None
        within = models_in(info.annotation)
    return info


def default_at(model: type[BaseModel], path: Sequence[str]) -> Any:
    """Return what a field that is not given has, as JSON values; None if it must be given."""
    info = field_at(model, path)
    if info is None or info.is_required() or info.default is PydanticUndefined:
        return None
    return to_jsonable_python(info.default)


def _with_numbers(known: str, path: Sequence[str]) -> str:
    """A field's path with the numbers that ``path`` has in the same lists."""
    parts = known.split(".")
    for position, part in enumerate(parts):
        if part == "N" and list(path[:position]) == parts[:position] and position < len(path):
            parts[position] = path[position]
    return ".".join(parts)


def nearest(model: type[BaseModel], path: Sequence[str]) -> str | None:
    """Return the known field that an unknown one was most likely meant to be."""
    known = [_with_numbers(row.path, path) for row in field_rows(model)]
    folder, name = ".".join(path[:-1]), path[-1]
    siblings = {one.rpartition(".")[2]: one for one in known if one.rpartition(".")[0] == folder}
    elsewhere = {one.rpartition(".")[2]: one for one in reversed(known)}
    found = difflib.get_close_matches(name, siblings, 1, 0.7)
    if found:
        return siblings[found[0]]
    if name in elsewhere:
        return elsewhere[name]
    found = difflib.get_close_matches(".".join(path), known, 1, 0.7)
    if found:
        return found[0]
    found = difflib.get_close_matches(name, elsewhere, 1, 0.7)
    return elsewhere[found[0]] if found else None
