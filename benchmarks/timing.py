"""Times works in turns, each with cold caches, and finds the memory that a call takes."""

from __future__ import annotations

import time
from collections.abc import Hashable
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks.cases import Work

Name = TypeVar("Name", bound=Hashable)
WARM_UPS = 3
CACHE = Path("/sys/devices/system/cpu/cpu0/cache")
LARGEST_CACHE = 128 << 20  # where the system doesn't tell


def last_level_cache() -> int:
    """Bytes of the largest cache that a core sees."""
    sizes = [path.read_text().strip() for path in CACHE.glob("index*/size")]
    units = {"K": 1 << 10, "M": 1 << 20}
    found = [int(size[:-1]) * units[size[-1]] for size in sizes if size[-1:] in units]
    return max(found, default=LARGEST_CACHE)


class Flush:
    """Drives what was used before out of the caches, by reading twice as much as they hold."""

    def __init__(self) -> None:
        self._other = torch.ones(last_level_cache() // 2)  # float32: twice the bytes

    def __call__(self) -> None:
        self._other.sum()


def time_in_turns(works: dict[Name, Work], repeat: int) -> dict[Name, list[float]]:
    """Milliseconds of every turn; a slow moment of the machine meets all works alike."""
    flush = Flush()
    for work in works.values():
        for _ in range(WARM_UPS):
            work()
    times: dict[Name, list[float]] = {name: [] for name in works}
    for _ in range(repeat):
        for name, work in works.items():
            flush()
            start = time.perf_counter()
            work()
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def peak_bytes(work: Work) -> int:
    """The largest rise of what PyTorch holds during one call.

    A rise and not a peak: a call begins by dropping the gradients of the one before.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    assert profile.profiler is not None
    held = lowest = rise = 0
    events = profile.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            lowest = min(lowest, held)
            rise = max(rise, held - lowest)
    return rise
