"""Plants mistakes in the CUDA kernels, one at a time, and shows that the proof finds each.

    python -m tools.plant_bugs [--ops NAME ...]

A mistake is a change of one place in a copy of kernels/; kernels/<op>/mistakes.yaml says which.
NAME is a mistake's, or an op's for all of its own. Exits with 1 if one is not found.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools import commands
from tools.ops import KERNELS, OPS, ROOT, Mistake, mistakes
from tools.simt import build


def planted(mistake: Mistake, folder: Path) -> Path:
    """A copy of kernels/ with the mistake in it."""
    kernels = folder / "kernels"
    shutil.copytree(KERNELS, kernels)
    path = kernels / mistake.file
    text = path.read_text(encoding="utf-8")
    if text.count(mistake.old) != 1:
        count = text.count(mistake.old)
        sys.exit(f"plant_bugs: {mistake.name}: {mistake.file} has the place {count} times")
    path.write_text(text.replace(mistake.old, mistake.new), encoding="utf-8")
    return kernels


def reported(row: dict[str, Any]) -> str | None:
    """What the proof says of a call, by the name of what saw it."""
    if row["error"]:
        return f"harness: {row['error']}"
    if row.get("findings"):
        return f"accesses: {row['findings'][0]}"
    if row.get("numerics") is False:
        return f"numerics: {row['case']}"
    if row.get("schedules") == 0:
        return f"schedules: {row['case']}"
    if row.get("beyond_one_extra") or row.get("bytes_over_minimum", 0) > 1.5:
        return f"traffic: {row['case']}"
    return None


def reports(library: Path, ops: tuple[str, ...]) -> list[str]:
    """What the proof has to say of a library's ops."""
    command = [sys.executable, "-m", "tools.proof.simt", "seen", "--quick"]
    done = subprocess.run(
        [*command, "--library", str(library), "--ops", *ops],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:  # a crash is found as well
        return [f"harness: {(done.stderr.splitlines() or ['died'])[-1]}"]
    rows = json.loads(done.stdout.splitlines()[-1])
    return [what for what in map(reported, rows) if what]


def run(mistake: Mistake) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = build.library_with(planted(mistake, folder), mistake.op, "seen", folder)
        return reports(library, mistake.operators)


def main() -> None:
    parser = commands.parser_of(__doc__)
    commands.add_ops(parser)
    every = {mistake.name: mistake for op in OPS for mistake in mistakes(op)}
    among = {name: mistake.op for name, mistake in every.items()}
    chosen = [every[name] for name in commands.chosen(parser, parser.parse_args().ops, among)]
    # A report means something only where the kernels as they are give none.
    ops = tuple(sorted({operator for mistake in chosen for operator in mistake.operators}))
    if false := reports(build.library("seen"), ops):
        sys.exit(f"plant_bugs: without any mistake there are reports: {false[0]}")
    survived = []
    for mistake in chosen:
        found = run(mistake)
        print(f"{mistake.name}: {len(found)} reports; {found[0][:160] if found else 'NOT FOUND'}")
        sys.stdout.flush()
        if not found:
            survived.append(mistake.name)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} planted mistakes found")
    if survived:
        sys.exit(1)


if __name__ == "__main__":
    main()
