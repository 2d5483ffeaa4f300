"""Sizes that a network may have.

A configuration may come from a checkpoint, and a checkpoint from anywhere: a size that no network
has would ask for all memory, or build layers for hours, before a single weight is compared.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence

LARGEST_WIDTH = 1024
LARGEST_DEPTH = 64


def check_blur(name: str, value: float) -> None:
    """Raise ValueError unless ``value`` is from 0 to 1/3, where all three weights are equal."""
    if not isinstance(value, numbers.Real) or not 0 <= value <= 1 / 3:
        raise ValueError(f"{name} must be in [0, 1/3], got {value!r}")


def check_sizes(
    name: str, values: Sequence[int] | float, most: int, *, least: int = 1, count: int = 1
) -> None:
    """Raise ValueError unless ``values`` are ``count`` whole numbers from ``least`` to ``most``."""
    listed = list(values) if isinstance(values, Sequence) else [values]
    if len(listed) != count or not all(type(v) is int and least <= v <= most for v in listed):
        kind = "a whole number" if count == 1 else f"{count} whole numbers"
        raise ValueError(f"{name} must be {kind} from {least} to {most}, got {values!r}")
