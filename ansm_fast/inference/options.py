"""Bounds of a run, and whom it tells what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ansm_fast.inference.files import Source

# Called with an input, what became of it, and why.
Progress = Callable[[Source, str, str], None]


@dataclass(frozen=True)
class DefendOptions:
    """Bounds and thread counts; the defaults suit a machine of two or more cores.

    Attributes:
        verify: compare the checksums of inputs and outputs before an input is skipped.
        sync: wait at each output and each line of the manifest until the disk has it.
    """

    max_pixels: int = 200_000_000
    batch_size: int = 1
    batch_pixels: int = 1 << 21
    budget_pixels: int = 48_000_000
    readers: int = 2
    writers: int = 2
    verify: bool = False
    sync: bool = False
    profile: bool = False
