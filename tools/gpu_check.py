"""Checks and measures every CUDA and Triton op on a GPU, in one command.

    python -m tools.gpu_check [--quick] [--large] [--parts NAME ...] [-o FILE]
    python -m tools.gpu_check --backends cpu [--quick]     on the CPU, correctness alone
    python -m tools.gpu_check --update-page                docs/gpu_results.md, of committed files

What runs: correctness of every op against the float64 reference; CUDA graphs, streams, devices,
torch.compile and autocast; compute-sanitizer where it is installed; the benchmark, with the share
of the device's copy bandwidth, measured in the same run. All of it goes into a dated file of
results/gpu, which grows with the run: one that was cut off has what it found before,
and says so. Backends that may be named: cuda, triton (with TRITON_INTERPRET=1 on the CPU), cpu,
simt (the CUDA kernels on the CPU, see tools/simt).

Exit code: 0 if all that could run passed, 1 if something failed, 2 if nothing could run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tools import commands, facts
from tools.bench import suite
from tools.cases import cases, folders
from tools.gpu import correctness, features, large, results, sanitizer, targets
from tools.gpu.correctness import FAILED, PASSED, Outcome
from tools.results import today, write_json

PARTS = ("correctness", "features", "sanitizer", "benchmark")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = commands.parser_of(__doc__)
    commands.add_ops(parser)
    parser.add_argument("--backends", nargs="+", metavar="NAME", help="by default cuda and triton")
    parser.add_argument("--quick", action="store_true", help="small cases, fewer benchmarks")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--peers", nargs="+", choices=suite.PEERS, default=suite.PEERS,
        help="of the benchmark; compile is slow",
    )  # fmt: skip
    parser.add_argument(
        "--large", action="store_true", help="also tensors of more than 2**31 elements"
    )
    parser.add_argument(
        "-o", "--output", type=Path, help="result file; on a GPU there is one anyway"
    )
    parser.add_argument("--update-page", action="store_true", help="write docs/gpu_results.md")
    parser.add_argument("--sanitize-target", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    arguments.ops = commands.chosen(parser, arguments.ops, folders())
    return arguments


def _runnable(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The backends that can run here, and why others cannot."""
    can, cannot = [], {}
    for name in names:
        reason = targets.why_not(name)
        if reason is None:
            can.append(name)
        else:
            cannot[name] = reason
    return can, cannot


def _guarded(part: str, backend: str, run: Callable[[], list[Outcome]]) -> list[Outcome]:
    """The part's outcomes; what ends it early is one, too, since a device may fail for good."""
    try:
        return run()
    except Exception as error:
        return [Outcome(part, backend, "all", "all", FAILED, correctness.one_line(error))]


def check(backend: str, arguments: argparse.Namespace) -> Iterator[list[Outcome]]:
    """The parts of one backend in turn, all but the benchmark; on the CPU correctness alone."""
    device, parts = targets.device_of(backend), arguments.parts
    if "correctness" in parts:
        chosen = [case for case in cases(arguments.quick) if case.op in arguments.ops]
        yield _guarded("values", backend, lambda: correctness.run(chosen, backend, device))
    if device.type != "cuda":
        return
    if "correctness" in parts and arguments.large:
        yield _guarded("large", backend, lambda: large.run(backend, device))
    if "features" in parts:
        yield _guarded("features", backend, lambda: features.run(backend, device))
    if "sanitizer" in parts:
        yield _guarded("sanitizer", backend, lambda: sanitizer.run(backend))


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    if arguments.update_page:
        results.update_page()
        return 0
    no_gpu = targets.no_gpu()
    if arguments.backends is None and no_gpu:
        print(
            f"gpu_check: no GPU here ({no_gpu}), so nothing was checked or measured; "
            "--backends cpu checks the ops' values on the CPU"
        )
        return 2
    names = arguments.backends or targets.ON_A_GPU
    try:
        can, cannot = _runnable(names)
    except ValueError as error:
        print(f"gpu_check: {error}")
        return 2
    for name, reason in cannot.items():
        print(f"gpu_check: {name} cannot run: {reason}")
    if not can or (arguments.backends and cannot):
        return 2
    if arguments.sanitize_target:
        for name in can:
            sanitizer.run_target(name, targets.device_of(name))
        return 0
    on_gpu = [name for name in can if targets.device_of(name).type == "cuda"]
    outcomes: list[Outcome] = []
    measured = None
    record = _Record(arguments, can, on_gpu)
    for name in can:
        for found in check(name, arguments):
            outcomes += found
            record.write(outcomes, None)
    if on_gpu and "benchmark" in arguments.parts:
        try:
            measured = suite.measure_all(
                on_gpu,
                quick=arguments.quick,
                keep=lambda found: record.write(outcomes, found),
                peers=arguments.peers,
            )
        except Exception as error:
            reason = correctness.one_line(error)
            outcomes.append(Outcome("benchmark", ",".join(on_gpu), "all", "all", FAILED, reason))
    print(results.table(outcomes))
    record.write(outcomes, measured or record.measured, finished=True)
    record.say_where()
    if any(outcome.status == FAILED for outcome in outcomes):
        return 1
    return 0 if measured or any(outcome.status == PASSED for outcome in outcomes) else 2


class _Record:
    """The result file, if there is to be one, as it grows."""

    def __init__(
        self, arguments: argparse.Namespace, can: Sequence[str], on_gpu: Sequence[str]
    ) -> None:
        self.facts = facts.facts() | {"backends": list(can)}
        if not on_gpu:
            self.facts["gpu"] = None  # one that is there was not used
        self.path: Path | None = arguments.output
        if self.path is None and self.facts["gpu"]:
            self.path = results.path_for(self.facts["gpu"]["name"], today())
        self.measured: dict[str, Any] | None = None

    def write(
        self,
        outcomes: Sequence[Outcome],
        measured: dict[str, Any] | None,
        finished: bool = False,
    ) -> None:
        self.measured = measured
        if self.path is None:
            return
        content = results.document(today(), self.facts, outcomes, measured, finished)
        write_json(self.path, content)
        if measured:
            suite.write_csv(self.path.with_suffix(".csv"), measured, self.facts)

    def say_where(self) -> None:
        if self.path is None:
            return
        print(f"written: {self.path}")
        if self.facts["gpu"] and self.path.parent == results.FOLDER:
            print("commit it; then python -m tools.gpu_check --update-page puts it into the docs")


if __name__ == "__main__":
    sys.exit(main())
