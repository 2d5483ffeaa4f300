"""What the faults share: inputs whose outputs are known, the command, and what it may leave."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from tools.faults.forked import Forked
from tools.ops import ROOT

# What no fault may ever cause.
NEVER = ("lost", "torn", "false_lines", "tracebacks", "crashes", "hangs", "leftovers")
FORMS = ("png", "jpg", "tif", "webp", "bmp")
# A run that takes longer hangs. It is asked several times: who stops all processes for a while, as
# for a measurement on the same machine, stops a run and the clock of this patience alike.
PATIENCE, ASKED = 120.0, 4

Run = subprocess.Popen[bytes] | Forked


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def picture(form: str, seed: int) -> bytes:
    """A small file of a format, of which there is another one for each seed."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(17, 49, 2))
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    if form == "tif" and seed % 2:
        tifffile.imwrite(
            buffer, pixels.astype(np.uint16) * 257, compression="lzw", photometric="rgb"
        )
    elif form == "png" and seed % 3 == 0:
        Image.fromarray(np.dstack([pixels, pixels[:, :, 0]])).save(buffer, "PNG")
    else:
        name = {"jpg": "JPEG", "tif": "TIFF"}.get(form, form.upper())
        Image.fromarray(pixels).save(buffer, name)
    return buffer.getvalue()


class Bench:
    """Runs the command and counts.

    Args:
        work: an empty folder.
        seed: of all that is random; which moment of a run that hits depends on the machine.
        deadline: ``time.monotonic`` after which a kind begins nothing more.

    Attributes:
        counts: what was done, and how often what never may happen did.
        notes: what somebody must look at, the first of each.
    """

    def __init__(self, work: Path, seed: int, deadline: float) -> None:
        self.work, self.random, self.deadline = work, random.Random(seed), deadline
        self.counts: Counter[str] = Counter(dict.fromkeys(NEVER, 0))
        self.notes: list[str] = []
        self._outputs: dict[str, str] = {}  # checksums: of an input, and of its output

    def time_is_left(self) -> bool:
        return time.monotonic() < self.deadline

    def note(self, kind: str, text: str) -> None:
        """Count what must never happen."""
        self.counts[kind] += 1
        if len(self.notes) < 50:
            self.notes.append(f"{kind}: {text}"[:500])

    def inputs(self, folder: Path, count: int, first: int = 0) -> dict[Path, bytes]:
        """Write small images of all formats, in two folders."""
        made = {}
        for index in range(count):
            form = FORMS[index % len(FORMS)]
            path = folder / ("sub" if index % 2 else "") / f"{index // 2:03d}.{form}"
            path.parent.mkdir(parents=True, exist_ok=True)
            made[path] = picture(form, first + index)
            path.write_bytes(made[path])
        return made

    def start(self, *arguments: object, environment: dict[str, str] | None = None) -> Run:
        """The command in a process of its own. Every fourth run, and one with an environment,
        starts an interpreter; the others have imported already what they import."""
        self.counts["runs"] += 1
        given = ["--weights", "tiny", "--threads", "1", *map(str, arguments)]
        if environment is None and self.counts["runs"] % 4:
            return Forked(["defend", *given])
        self.counts["interpreters_started"] += 1
        here = {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [sys.executable, "-m", "ansm_fast.cli.main", "defend", *given],
            cwd=ROOT,
            env={**os.environ, **here, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def end(self, process: Run, expected: set[int] | None = None) -> str:
        """Wait for a run and look at how it ended; returns all that it said."""
        for left in reversed(range(ASKED)):
            try:
                out, err = process.communicate(timeout=PATIENCE)
                break
            except subprocess.TimeoutExpired:
                if not left:
                    process.kill()
                    out, err = process.communicate()
                    self.note("hangs", err.decode(errors="replace")[-300:])
        said = (out + err).decode(errors="replace")
        if "Traceback" in said:
            self.note("tracebacks", said[-400:])
        elif "Fatal Python error" in said or process.returncode in (-4, -6, -7, -8, -11):
            self.note("crashes", f"{process.returncode} {said[-300:]}")
        elif expected is not None and process.returncode not in expected:
            self.note("tracebacks", f"exit code {process.returncode}: {said[-300:]}")
        return said

    def learn(self, folder: Path) -> None:
        """Defend a folder undisturbed, to know what the output of each input is."""
        out = self.work / f"learned-{len(self._outputs)}"
        said = self.end(self.start("--batch", folder, "-o", out), {0})
        for record in records(out):
            if record["status"] != "done":
                raise RuntimeError(f"an undisturbed run failed: {said}")
            self._outputs[record["input_sha256"]] = record["output_sha256"]
        shutil.rmtree(out)

    def check(self, out: Path, kept: dict[Path, bytes], *, complete: int | None = None) -> set[str]:
        """Look at what a run left.

        Args:
            kept: files that must be as they are: the inputs, and those of others in ``out``.
            complete: how many inputs must be done; then no temporary file may be left either.

        Returns:
            The outputs that are done.
        """
        for path, content in kept.items():
            if not path.is_file() or path.read_bytes() != content:
                self.note("lost", f"{path} is gone or another")
        done: dict[str, dict[str, Any]] = {}
        for record in records(out, self):
            if record.get("status") == "done":
                done[record["output"]] = record
                if (known := self._outputs.get(record["input_sha256"])) is None:
                    self.counts["unknown_inputs"] += 1
                elif known != record["output_sha256"]:
                    self.note("false_lines", f"another output than undisturbed: {record}")
        known = set(self._outputs.values())
        for name, record in done.items():
            path = out / name
            found = sha256(path.read_bytes()) if path.is_file() else None
            if found != record["output_sha256"] and found not in known:
                self.note("false_lines", f"{name} is {found}, not {record['output_sha256']}")
        for path in out.rglob("*.png") if out.is_dir() else ():
            if path in kept or path.name.startswith("."):
                continue
            if (
                path.relative_to(out).as_posix() not in done
                and sha256(path.read_bytes()) not in known
            ):
                self.note("torn", f"{path.name} of {path.stat().st_size} bytes")
        if complete is not None:
            if len(done) != complete:
                self.note("lost", f"{len(done)} of {complete} inputs done")
            for path in out.rglob(".*"):
                if path not in kept:
                    self.note("leftovers", path.name)
            extra = set(out.rglob("*.png")) - set(kept)
            if len(extra) != complete:
                self.note("leftovers", f"{len(extra)} outputs of {complete} inputs")
        return set(done)


def records(out: Path, bench: Bench | None = None) -> list[dict[str, Any]]:
    """The lines of a manifest; any but the last that is none is false."""
    try:
        content = (out / "manifest.jsonl").read_bytes()
    except FileNotFoundError:
        return []
    found = []
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line.decode()))
        except ValueError:
            # What a kill cut short is the end of the file, or was, when the next run came.
            if line and bench is not None:
                bench.counts["cut_lines"] += 1
                if b'"written_at"' in line and number < len(lines):
                    bench.note("false_lines", repr(line[:200]))
    return found
