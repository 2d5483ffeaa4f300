"""Runs the op benchmarks under the default and a tuned allocator, and checks their targets.

    python -m benchmarks.run -o results/benchmarks/cpu.json

With the default allocator much of an eager time is page faults of its large temporaries, which
flatters any fused kernel; the tuned one keeps freed memory. Both are reported.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES
from tools.facts import machine
from tools.results import write_dated

ROOT = Path(__file__).resolve().parents[1]
TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
}
ALLOCATORS: dict[str, dict[str, str]] = {"default": {}, "tuned": TUNED}

Results = dict[str, dict[str, dict[str, Any]]]


def run(repeat: int = 31) -> Results:
    """{allocator: what measure.py prints}."""
    results = {}
    for name, variables in ALLOCATORS.items():
        environment = {k: v for k, v in os.environ.items() if k not in TUNED} | variables
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.measure", "--repeat", str(repeat)],
            cwd=ROOT, env=environment | {"KINETO_LOG_LEVEL": "5"}, check=True,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        results[name] = json.loads(done.stdout.splitlines()[-1])
    return results


def misses(results: Results) -> list[str]:
    """A line for each target of the ops' ``cases.py`` that is missed, with the tuned allocator, and
    for each peer that is faster beyond noise.

    Lower quartiles are compared, which other programs on the machine disturb least; a peer is
    faster beyond noise where even its slow quarter takes less time than our fast one.
    """
    found, cases = [], results["tuned"]
    for name, case in CASES.items():
        low, high = cases[name]["ms_low"], cases[name]["ms_high"]
        for other, at_most in case.benchmark.cpu_targets.items():
            least = low["copy"] if other == "copy" else cases[other]["ms_low"]["ours"]
            if low["ours"] > at_most * least:
                found.append(
                    f"{name}: {low['ours']:.2f} ms are {low['ours'] / least:.2f} times the "
                    f"{least:.2f} ms of {other}, wanted at most {at_most}"
                )
        found += [
            f"{name}: {low['ours']:.2f} ms are more than {peer}'s {high[peer]:.2f} ms"
            for peer in ("eager", "compile")
            if low["ours"] > high[peer]
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=31)
    arguments = parser.parse_args()
    from benchmarks.table import full_table

    results = run(arguments.repeat)
    write_dated(arguments.output, {"machine": machine(), "results": results})
    print(full_table(results))
    for line in misses(results):
        print("missed:", line)


if __name__ == "__main__":
    main()
