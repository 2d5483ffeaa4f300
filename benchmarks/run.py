"""Runs the op benchmarks under the default and a tuned allocator, and checks their targets.

    python -m benchmarks.run -o results/benchmarks/cpu.json
    python -m benchmarks.run -o FILE --ops focal --allocators tuned   # these alone are replaced

With the default allocator much of an eager time is page faults of its large temporaries, which
flatters any fused kernel; the tuned one keeps freed memory. Both are reported.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, OPS
from tools import commands
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


def run(
    names: Sequence[str] = tuple(CASES),
    allocators: Sequence[str] = tuple(ALLOCATORS),
    repeat: int = 31,
) -> Results:
    """{allocator: what measure.py prints}."""
    results = {}
    for allocator in allocators:
        environment = {k: v for k, v in os.environ.items() if k not in TUNED}
        environment |= ALLOCATORS[allocator] | {"KINETO_LOG_LEVEL": "5"}
        command = [sys.executable, "-m", "benchmarks.measure", "--repeat", str(repeat), "--ops"]
        done = subprocess.run(
            [*command, *names], cwd=ROOT, env=environment, check=True,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        results[allocator] = json.loads(done.stdout.splitlines()[-1])
    return results


def misses(cases: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each target of the ops' ``cases.py`` that is missed, and for each peer that is
    faster beyond noise: in three turns of four.

    Args:
        cases: those of one allocator, by name.
    """
    found = []
    for name, figures in cases.items():
        over, ms = figures["over"], figures["ms"]["ours"]["median"]
        found += [
            f"{name}: {ms:.2f} ms are {over[other]['median']:.2f} times what {other} takes, "
            f"wanted at most {at_most}"
            for other, at_most in CASES[name].benchmark.cpu_targets.items()
            if over[other]["median"] > at_most
        ]
        found += [
            f"{name}: {ms:.2f} ms are {over[peer]['median']:.2f} times what {peer} takes"
            for peer in ("eager", "compile")
            if over[peer]["low"] > 1
        ]
    return found


def beside_what_is_there(
    parser: argparse.ArgumentParser, path: Path, facts: dict[str, Any], new: Results
) -> Results:
    """The results in a file, with the new ones in the place of the old."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if document["machine"] != facts:
        parser.error(f"{path} is of another machine or torch; leave out --ops and --allocators")
    old: Results = document["results"]
    return {
        name: {
            case: found
            for case in CASES
            if (found := (old.get(name, {}) | new.get(name, {})).get(case))
        }
        for name in ALLOCATORS
    }


def main() -> None:
    parser = commands.parser_of(__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=31)
    parser.add_argument("--allocators", nargs="+", choices=ALLOCATORS, default=list(ALLOCATORS))
    commands.add_ops(parser)
    options = parser.parse_args()
    from benchmarks.table import full_table

    facts = machine()
    names = commands.chosen(parser, options.ops, OPS)
    results = run(names, options.allocators, options.repeat)
    whole = len(names) == len(CASES) and len(options.allocators) == len(ALLOCATORS)
    if options.output.exists() and not whole:
        results = beside_what_is_there(parser, options.output, facts, results)
    write_dated(options.output, {"machine": facts, "results": results})
    print(full_table(results))
    for line in misses(results.get("tuned", {})):
        print("missed:", line)


if __name__ == "__main__":
    main()
