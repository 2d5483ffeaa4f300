"""Times every case in this process and prints JSON.

    python -m benchmarks.measure [--repeat 31]

The allocator's settings are the environment's: see ``run.py``, which calls this twice.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

import torch

from benchmarks.cases import CASES
from benchmarks.timing import peak_bytes, time_in_turns

Figures = dict[str, dict[str, float]]


def measure(repeat: int) -> dict[str, Figures]:
    """{case: {"ms" (median), "ms_low", "ms_high" (quartiles), "peak_bytes": {implementation:}}}."""
    results = {}
    for name, case in CASES.items():
        torch.manual_seed(0)
        works = case.make()
        quartiles = {
            key: statistics.quantiles(times, n=4)
            for key, times in time_in_turns(works, repeat).items()
        }
        figures: Figures = {
            figure: {key: values[index] for key, values in quartiles.items()}
            for index, figure in enumerate(("ms_low", "ms", "ms_high"))
        }
        figures["peak_bytes"] = {key: peak_bytes(work) for key, work in works.items()}
        results[name] = figures
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=31)
    results = json.dumps(measure(parser.parse_args().repeat))
    sys.stdout.write(f"\n{results}\n")  # the profiler writes lines of its own


if __name__ == "__main__":
    main()
