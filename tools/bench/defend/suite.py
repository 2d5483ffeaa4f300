"""``ansm-fast defend`` beside a plain loop and scripts of one's own, in turns.

    python -m tools.bench defend [CASE ...] [--turns 3] [--only NAME ...] -o FILE

A case is COUNTxSIZE of images that are made from a seed: 60:480x640, 12:1280x1920, or 60:256-900 of
sides between, no size twice. Every measurement is a process of its own; turns are interleaved, so
that a machine whose speed changes changes it for all. Rows are added to FILE: a suite may run in
parts. ``python -m tools.bench.defend.picture FILE`` shows the medians.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansm_fast.inference.profile import available_cores
from tools.bench.defend import photographs
from tools.facts import facts

CASES = ("60:480x640", "12:1280x1920", "60:256-900")
NAMES = (
    "plain loop",
    "onnxruntime script",
    "openvino script",
    "ours eager",
    "ours onnxruntime",
    "ours openvino",
    "network eager",
    "ours without network",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(NAMES), metavar="NAME")
    parser.add_argument("--ansm", default="robust")
    parser.add_argument("-o", "--output", type=Path, required=True)


def _measured(name: str, folder: Path, ansm: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "tools.bench.defend.child", name, str(folder), output]
        ran = subprocess.run([*command, "--ansm", ansm], capture_output=True, text=True)
    if ran.returncode:
        return {"name": name, "ansm": ansm, "error": ran.stderr.strip().splitlines()[-1:]}
    row: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return row


def rows(cases: list[str], names: list[str], turns: int, ansm: str) -> Iterator[dict[str, Any]]:
    """Every measurement as it is made."""
    for case in cases:
        count, kind = case.split(":")
        sizes = list(photographs.sizes_of(kind, int(count)))
        root = Path(tempfile.mkdtemp())
        try:
            photographs.write(root / "in", sizes)
            megapixels = round(sum(height * width for height, width in sizes) / 1e6, 3)
            for turn in range(turns):
                for name in names:
                    row = _measured(name, root / "in", ansm)
                    yield {"case": case, "turn": turn, "megapixels": megapixels, **row}
        finally:
            shutil.rmtree(root)


def run(arguments: argparse.Namespace) -> None:
    """Measure, print and keep each row."""
    path: Path = arguments.output
    document: dict[str, Any] = {"facts": facts(), "cores": available_cores(), "rows": []}
    if path.exists():
        document = json.loads(path.read_text(encoding="utf-8"))
    for row in rows(arguments.cases, arguments.only, arguments.turns, arguments.ansm):
        document["rows"].append(row)
        print(json.dumps(row), flush=True)
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
