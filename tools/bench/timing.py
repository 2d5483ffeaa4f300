"""How time is taken: by a clock, which is a GPU's events or a test's fake."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

Work = Callable[[], object]

WARM_UPS = 3
FEWEST, MOST = 10, 200


class Clock(Protocol):
    """What the timing needs of a device."""

    def flush(self) -> None:
        """Drive everything out of the caches."""

    def record(self) -> Any:
        """A mark in the stream of work."""

    def milliseconds(self, start: Any, end: Any) -> float:
        """Time between two marks that were waited for."""

    def wait(self) -> None:
        """Until all work is done."""

    def peak_bytes(self, work: Work) -> int:
        """The largest rise of allocated memory during one call."""

    def captured(self, work: Work) -> Work:
        """The same work as one replay of a graph."""


class CudaClock:
    """CUDA events on the current stream.

    Before each repetition a buffer several times the size of the second-level cache is written:
    no run finds its inputs there. The host gets ahead meanwhile, so that short work is not timed
    by how fast it is launched; "graph" rows leave launching out altogether.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)
        self._buffer = torch.empty(max(4 * cache, 256 << 20), dtype=torch.int8, device=device)

    def flush(self) -> None:
        self._buffer.zero_()

    def record(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def milliseconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return float(start.elapsed_time(end))

    def wait(self) -> None:
        torch.cuda.synchronize(self._device)

    def peak_bytes(self, work: Work) -> int:
        self.wait()
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        work()
        self.wait()
        return int(torch.cuda.max_memory_allocated(self._device)) - before

    def captured(self, work: Work) -> Work:
        side = torch.cuda.Stream(self._device)
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.current_stream(self._device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay


def quantile(values: Sequence[float], share: float) -> float:
    """By linear interpolation between the sorted values."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def repetitions(milliseconds: float, budget: float) -> int:
    """How often work of this length is repeated within the budget."""
    if milliseconds <= 0:
        return MOST
    return max(FEWEST, min(MOST, int(budget / milliseconds)))


def _once(work: Work, clock: Clock) -> tuple[Any, Any]:
    clock.flush()
    start = clock.record()
    work()
    return start, clock.record()


def time_in_turns(
    works: dict[str, Work], clock: Clock, budget: float = 500.0
) -> dict[str, list[float]]:
    """Milliseconds of every repetition of each; a change of clocks meets all of them alike."""
    counts = {}
    for name, work in works.items():
        for _ in range(WARM_UPS):
            work()
        marks = _once(work, clock)
        clock.wait()
        counts[name] = repetitions(clock.milliseconds(*marks), budget)
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(max(counts.values(), default=0)):
        marks_of = {n: _once(work, clock) for n, work in works.items() if turn < counts[n]}
        clock.wait()
        for name, marks in marks_of.items():
            times[name].append(clock.milliseconds(*marks))
    return times


def copy_gb_per_s(clock: Clock, device: torch.device, size: int = 1 << 30) -> float:
    """What a copy of the device's own memory reaches, reads and writes counted."""
    source, target = (torch.zeros(size, dtype=torch.int8, device=device) for _ in range(2))
    times = time_in_turns({"copy": lambda: target.copy_(source)}, clock)["copy"]
    return 2 * size / quantile(times, 0.5) / 1e6
