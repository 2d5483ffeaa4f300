"""Times cases in this process and prints JSON.

    python -m benchmarks.measure [--ops NAME ...] [--repeat 31]

What is compared runs in one loop, turn by turn: the speed of a machine may change by a factor
within minutes, and what counts are the ratios of each turn. The allocator's settings are the
environment's: see ``run.py``, which calls this for each.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence

import torch

from benchmarks.cases import CASES, OPS
from benchmarks.timing import peak_bytes, time_in_turns
from tools import commands

Figures = dict[str, dict[str, float]]
QUARTILES = ("low", "median", "high")


def compared(names: Sequence[str]) -> list[list[str]]:
    """Those of CASES that belong together: a case and those that its targets name."""
    groups: list[list[str]] = []
    for name in names:
        together = [name, *(CASES[name].benchmark.cpu_targets.keys() & CASES.keys())]
        shared = [group for group in groups if set(group) & set(together)]
        for group in shared:
            groups.remove(group)
        found = {*together, *(one for group in shared for one in group)}
        groups.append([one for one in CASES if one in found])
    return groups


def quartiles(values: Sequence[float]) -> dict[str, float]:
    return dict(zip(QUARTILES, statistics.quantiles(values, n=4), strict=True))


def figures_of(
    name: str, times: dict[tuple[str, str], list[float]]
) -> dict[str, dict[str, dict[str, float]]]:
    """A case's times in ms, and ours as multiples of the others', turn by turn.

    Args:
        times: {(case, implementation): ms of each turn}, of all cases in the loop.

    Returns:
        {"ms": {implementation: quartiles}, "over": {implementation or case: quartiles}}.
    """
    mine = {key: values for (case, key), values in times.items() if case == name}
    others = {key: values for key, values in mine.items() if key != "ours"}
    others |= {case: v for (case, key), v in times.items() if key == "ours" and case != name}
    return {
        "ms": {key: quartiles(values) for key, values in mine.items()},
        "over": {
            other: quartiles([a / b for a, b in zip(mine["ours"], values, strict=True)])
            for other, values in others.items()
        },
    }


def measure(names: Sequence[str], repeat: int) -> dict[str, Figures]:
    """{case: what ``figures_of`` gives, and "peak_bytes": {implementation: bytes}}."""
    results = {}
    for group in compared(names):
        torch.manual_seed(0)
        works = {(name, key): work for name in group for key, work in CASES[name].make().items()}
        times = time_in_turns(works, repeat)
        for name in group:
            memory = {key: peak_bytes(work) for (case, key), work in works.items() if case == name}
            results[name] = figures_of(name, times) | {"peak_bytes": memory}
    return results


def main() -> None:
    parser = commands.parser_of(__doc__)
    commands.add_ops(parser)
    parser.add_argument("--repeat", type=int, default=31)
    options = parser.parse_args()
    results = measure(commands.chosen(parser, options.ops, OPS), options.repeat)
    sys.stdout.write(f"\n{json.dumps(results)}\n")  # the profiler writes lines of its own


if __name__ == "__main__":
    main()
