"""Times every case in this process, its implementations in turns, and prints JSON.

    python benchmarks/measure.py [--repeat 21]

The allocator's settings are the environment's: see ``run.py``, which calls this twice.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import torch
from cases import CASES, Work


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


def time_in_turns(works: dict[str, Work], repeat: int) -> dict[str, float]:
    """Median milliseconds of each; a slow moment of the machine meets all of them alike."""
    for work in works.values():
        for _ in range(3):
            work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeat):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(repeat: int) -> dict[str, dict[str, dict[str, float]]]:
    """{case: {"ms": {implementation: median}, "peak_bytes": {implementation: bytes}}}."""
    results = {}
    for name, case in CASES.items():
        torch.manual_seed(0)
        works = case.make()
        results[name] = {
            "ms": time_in_turns(works, repeat),
            "peak_bytes": {key: peak_bytes(work) for key, work in works.items()},
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=21)
    results = json.dumps(measure(parser.parse_args().repeat))
    sys.stdout.write(f"\n{results}\n")  # the profiler writes lines of its own


if __name__ == "__main__":
    main()
