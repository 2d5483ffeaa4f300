"""Times every case in this process, its implementations in turns, and prints JSON.

    python -m benchmarks.measure [--repeat 21]

The allocator's settings are the environment's: see ``benchmarks.run``, which calls this twice.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

from benchmarks.cases import CASES, Work


def _resident(field: str) -> int:
    """Bytes of VmRSS or VmHWM; 0 where there is no /proc."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    for line in status.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def peak_bytes(work: Work) -> int:
    """How far one call raises the process's resident memory above what it was before."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    except OSError:
        return 0
    before = _resident("VmRSS")
    work()
    return max(0, _resident("VmHWM") - before)


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
            "peak_bytes": {key: float(peak_bytes(work)) for key, work in works.items()},
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=21)
    json.dump(measure(parser.parse_args().repeat), sys.stdout)


if __name__ == "__main__":
    main()
