"""Proves the GPU kernels without a GPU, and prints what is proved as a table.

    python -m tools.prove [--ops NAME ...] [--quick] [--changed] [--update]

A row for each op and kind of kernel. What the columns hold:

numerics         calls right against float64: all dtypes, odd sizes, layouts, edges
schedules        orders of warps, blocks or programs that gave the same bits
sanitizers       CUDA: calls under AddressSanitizer and UndefinedBehaviorSanitizer;
                 Triton: calls whose every unmasked lane lay within a tensor
races            races, accesses out of range, reads of unwritten shared memory
bytes / minimum  distinct sectors touched over the minimum traffic, at most 1.02
sectors / ideal  CUDA: sectors of every warp access over the ideal for aligned rows, at most 1.05;
                 Triton: compiled instances with 128-bit accesses, of those for aligned rows
registers        of a thread, over sm_80, sm_90, sm_100 and all instances
spills           kernels that spill or have a stack frame

With --quick two dtypes and fewer calls, and of Triton what is compiled: the same calls in its
interpreter are tests (pytest -m slow tests/triton). With --changed those ops alone that are not
what they were when they were last proved, by their own files, those that ops share, the tools and
the compilers; what is right then is recorded in results/proof.json, to be committed.

Exits with 1 and says what is wrong where a cell is not as it must be. Needs g++, nvcc and Triton.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansm_fast.evaluation.tables import write_markdown
from build_backend import cuda_library
from tools import commands, compile_report
from tools.cases import described, operators
from tools.ops import KERNELS, ROOT
from tools.proof import record, summary
from tools.simt import build, harness

Rows = list[dict[str, Any]]


def tool(*command: str, environment: dict[str, str] | None = None) -> Rows:
    """The rows that a tool prints as JSON, in a process of its own."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    print(f"{command[0]} {' '.join(command[1:3])}: {time.monotonic() - started:.0f} s", flush=True)
    try:  # a report that finds something exits with 1 after its rows, which say what
        rows: Rows = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        told = f"{done.stdout[-2000:]}{done.stderr[-4000:]}"
        sys.exit(f"prove: {' '.join(command)} fails with {done.returncode}:\n{told}")
    return rows


def toolkit() -> cuda_library.Toolkit:
    try:
        return cuda_library.find_toolkit()
    except cuda_library.CannotBuild as error:
        sys.exit(f"prove: {error}")


def compiled_ops(chosen: list[str]) -> tuple[dict[str, Rows], list[str]]:
    """The ops' kernels, and what is worse than in the committed table."""
    started = time.monotonic()
    compiler = toolkit()
    results = compile_report.compiled(chosen, compiler)
    print(f"compiled {', '.join(chosen)}: {time.monotonic() - started:.0f} s", flush=True)
    ops: dict[str, Rows] = {
        op: [
            {
                "kernel": name,
                "registers": [kernel.registers for kernel in found.values()],
                "memory": "; ".join(k.memory for k in found.values() if k.memory),
            }
            for name, found in kernels.items()
        ]
        for op, kernels in results.items()
    }
    return ops, compile_report.worse_than_committed(results, compiler.version)


def launched(rows: Rows, op: str, kernels: Rows) -> Rows:
    """Those of an op's kernels that an operator's calls launched."""
    names = {name for row in rows if row["op"] == op for name in row.get("kernels", ())}
    return [k for k in kernels if re.split(r"[<(]", k["kernel"])[0] in names]


def proved(
    chosen: list[str], quick: bool
) -> tuple[dict[tuple[str, str], summary.Cells], list[str]]:
    """The table, and how kernels/<op>/resources.md is no longer true."""
    names = [name for name, op in operators().items() if op in chosen]
    flags = ["--ops", *names, *(["--quick"] if quick else [])]
    for variant in ("plain", "address", "seen"):  # built here, one after the other
        build.library(variant)
    interpreter = dict(os.environ, TRITON_INTERPRET="1")
    with ThreadPoolExecutor(max(1, min(2, os.cpu_count() or 1))) as pool:
        simt = {
            variant: pool.submit(
                tool, "tools.proof.simt", variant, *flags,
                environment=harness.address_environment() if variant == "address" else None,
            )
            for variant in ("plain", "seen", "address")
        }  # fmt: skip
        interpreted = None if quick else pool.submit(
            tool, "tools.triton.interpreter_report", "--json", *flags, environment=interpreter
        )  # fmt: skip
        ahead = pool.submit(tool, "tools.triton.compile_report", "--json", *flags)
        ops = pool.submit(compiled_ops, chosen)
        found = {variant: future.result() for variant, future in simt.items()}
        triton = interpreted.result() if interpreted else None
        compiled, (kernels, worse) = ahead.result(), ops.result()
    table = {}
    for name in names:
        op = operators()[name]
        mine = launched(found["seen"], name, kernels[op])
        table[name, "cuda"] = summary.cuda_cells(
            name, found["plain"], found["address"], found["seen"], mine
        )
        compiled_as = described()[op].same_kernels.get(name, name)
        table[name, "triton"] = summary.triton_cells(name, triton, compiled, compiled_as)
    return table, worse


def show(table: dict[tuple[str, str], summary.Cells]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(title="What is proved without a GPU")
    for title in ("op", "backend", *summary.COLUMNS):
        shown.add_column(title, overflow="fold")
    for (op, backend), cells in table.items():
        style = "red" if cells.wrong else None
        shown.add_row(op, backend, *(cells[c] for c in summary.COLUMNS), style=style)
    Console(width=None if sys.stdout.isatty() else 200).print(shown)


def main() -> None:
    parser = commands.parser_of(__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer calls, no interpreter")
    parser.add_argument("--changed", action="store_true", help="what was not proved as it stands")
    parser.add_argument("--update", action="store_true", help="write kernels/<op>/proof.md")
    commands.add_ops(parser)
    options = parser.parse_args()
    if options.quick and options.update:
        parser.error("--update writes what all of the proof shows: leave out --quick")
    ops = commands.chosen_ops(parser, options.ops)
    compilers = ""
    if options.changed:
        compilers = record.compilers(toolkit().version)
        ops = record.changed(ops, compilers)
        print(f"changed since they were proved: {', '.join(ops) or 'none'}", flush=True)
        if not ops:
            return
    table, worse = proved(ops, options.quick)
    show(table)
    if options.update:
        for op, text in summary.pages(table, operators()).items():
            write_markdown(KERNELS / op / "proof.md", text, "proof")
    wrong = [f"{op} on {b}: {line}" for (op, b), cells in table.items() for line in cells.wrong]
    wrong += worse
    for line in wrong:
        print(line)
    empty = [key for key, cells in table.items() if not all(cells.get(c) for c in summary.COLUMNS)]
    if wrong or empty:
        sys.exit(f"prove: {len(wrong)} findings, {len(empty)} rows with empty cells")
    if options.changed:
        record.remember(ops, compilers)


if __name__ == "__main__":
    main()
