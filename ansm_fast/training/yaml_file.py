"""YAML as people write it by hand: whatever is wrong with it is one line that names the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ansm_fast.errors import InputError

_MOST_BYTES = 1_000_000
# With every alias written out: a few lines of anchors may stand for billions of values.
_MOST_VALUES = 10_000


def _size(node: yaml.Node | None, known: dict[int, int], above: frozenset[int]) -> int:
    """Values below ``node``, aliases written out; ``above``: the nodes that it is part of."""
    if node is None or isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in above:
        raise ValueError("an alias stands inside its own anchor")
    if id(node) not in known:
        inside = above | {id(node)}
        parts = (
            [part for pair in node.value for part in pair]
            if isinstance(node, yaml.MappingNode)
            else node.value
        )
        known[id(node)] = 1 + sum(_size(part, known, inside) for part in parts)
    return known[id(node)]


def _check_keys(node: yaml.Node | None, seen: set[int]) -> None:
    """YAML itself takes the last of equal keys, silently."""
    if node is None or isinstance(node, yaml.ScalarNode) or id(node) in seen:
        return
    seen.add(id(node))
    lines: dict[str, int] = {}
    for part in node.value:
        key, value = part if isinstance(node, yaml.MappingNode) else (None, part)
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            line = key.start_mark.line + 1
            if key.value in lines:
                raise ValueError(
                    f"the key {key.value!r} stands twice, in lines {lines[key.value]} and {line}"
                )
            lines[key.value] = line
        _check_keys(value, seen)


def _problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())[:200] or type(error).__name__
    return f"{problem}, line {mark.line + 1}, column {mark.column + 1}"


def parse_yaml(text: str, origin: str, instead: str) -> Any:
    """Parse a YAML text.

    Args:
        origin: what the error begins with, e.g. the file's name.
        instead: what it ends with: what to do.

    Raises:
        InputError: malformed, the same key twice in one mapping, or anchors that multiply.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if _size(node, {}, frozenset()) > _MOST_VALUES:
            raise ValueError(f"more than {_MOST_VALUES} values, aliases written out")
        _check_keys(node, set())
        return yaml.safe_load(text)
    except RecursionError as error:
        raise InputError(f"{origin} is not valid YAML (nested too deeply); {instead}") from error
    except (yaml.YAMLError, ValueError, OverflowError, AttributeError) as error:
        raise InputError(f"{origin} is not valid YAML ({_problem(error)}); {instead}") from error


def read_yaml(path: Path, instead: str) -> Any:
    """Read a YAML file in UTF-8, with or without a byte order mark, of any line ends.

    Raises:
        InputError: no such file, a folder, unreadable, empty, not UTF-8, or as ``parse_yaml``.
    """
    if path.is_dir():
        raise InputError(f"config {path} is a folder; {instead}")
    if not path.is_file():
        raise InputError(f"no such config file: {path}; {instead}")
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read config {path} ({error.strerror}); {instead}") from error
    if len(content) > _MOST_BYTES:
        raise InputError(f"{path} is no config: it holds more than a megabyte; {instead}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path} is not UTF-8 (byte 0x{content[error.start]:02x} in line {line}); save it as "
            "UTF-8"
        ) from error
    if not text.strip():
        raise InputError(f"config {path} is empty; {instead}")
    return parse_yaml(text, str(path), instead)
