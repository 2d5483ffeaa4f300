"""Do faults to ``ansm-fast defend`` and count what must never happen.

    python -m tools.faults [KIND ...] [--short] [--seed 0] [--seconds 5400] [-o FILE]

Without a name all kinds, each in a folder of its own. ``--short`` does a few of each. The exit code
is 1 if anything was lost, torn, false, or ended in a traceback, a crash or a hang.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tools.facts import commit, machine
from tools.faults.bench import NEVER, Bench
from tools.results import write_dated

# How often each kind is done: in full, and with --short.
COUNTS = {
    "kills": (200, 3),
    "signals": (30, 2),
    "disk": (8, 1),
    "mutations": (20_000, 300),
    "changes": (6, 1),
    "entries": (6, 1),
    "together": (6, 1),
}


def do(kind: str, count: int, seed: int, deadline: float) -> dict[str, Any]:
    """Do ``count`` faults of a kind; returns the counts and the notes."""
    work = Path(tempfile.mkdtemp(prefix=f"faults-{kind}-"))
    bench, started = Bench(work, seed, deadline), time.monotonic()
    try:
        importlib.import_module(f"tools.faults.{kind}").run(bench, count)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    found: dict[str, Any] = {"wanted": count, **bench.counts}
    found["seconds"] = round(time.monotonic() - started, 1)
    if bench.notes:
        found["notes"] = bench.notes
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(COUNTS))
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5400.0, help="of all kinds together")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args(arguments)
    if unknown := set(options.kinds) - set(COUNTS):
        parser.error(f"no kind {', '.join(sorted(unknown))}; expected {', '.join(COUNTS)}")
    deadline, kinds = time.monotonic() + options.seconds, {}
    for kind in options.kinds or COUNTS:
        kinds[kind] = do(kind, COUNTS[kind][options.short], options.seed, deadline)
        shown = {key: value for key, value in kinds[kind].items() if key != "notes"}
        print(kind, shown, *kinds[kind].get("notes", ()), sep="\n  ", flush=True)
        never = {name: sum(one[name] for one in kinds.values()) for name in NEVER}
        if options.output is not None:
            given = sys.argv[1:] if arguments is None else arguments
            result = {
                "command": shlex.join(["python", "-m", "tools.faults", *given]),
                **commit(),
                "machine": machine(),
                "seed": options.seed,
                "never": never,
                "kinds": kinds,
            }
            write_dated(options.output, result)
    return int(any(never.values()))


if __name__ == "__main__":
    sys.exit(main())
