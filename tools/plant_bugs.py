"""Plants mistakes in the CUDA kernels, one at a time, and shows that the proof finds each.

    python -m tools.plant_bugs [NAME ...]

A mistake is a change of one place in a copy of kernels/. Exits with 1 if one is not found.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.simt import build

ROOT = Path(__file__).resolve().parents[1]
KL = "channelwise_kl"


@dataclass(frozen=True)
class Bug:
    name: str
    room: str
    file: str  # in kernels/
    old: str
    new: str
    ops: tuple[str, ...]


BUGS = (
    Bug(
        "missing barrier, read after write", KL, f"{KL}/cuda_held.cuh",
        "__syncthreads();\n  if (warp == 0) {", "if (warp == 0) {", (KL,),
    ),
    Bug(
        "missing barrier, write after read", KL, f"{KL}/cuda_columns.cuh",
        " scale);\n  __syncthreads();\n  across_pixels<false>", " scale);\n  across_pixels<false>",
        (KL,),
    ),
    Bug(
        "two blocks write one word", KL, f"{KL}/cuda_layers.cuh",
        "row * layer.padded_chunks() + chunk", "row * layer.padded_chunks()", (KL,),
    ),
    Bug(
        "load out of bounds", KL, f"{KL}/cuda_held.cuh",
        "!aligned && element_at(g, i) < count", "!aligned && element_at(g, i) <= count", (KL,),
    ),
    Bug(
        "store out of bounds", KL, f"{KL}/cuda_held.cuh",
        "if (element_at(group, i) < count)", "if (element_at(group, i) <= count)", (KL,),
    ),
    Bug(
        "uninitialized shared word", KL, f"{KL}/cuda_held.cuh",
        "if (lane == 0) {\n    buffer[warp] = first;",
        "if (lane == 0 && warp) {\n    buffer[warp] = first;", (KL,),
    ),
    Bug(
        "wrong mask", "dual_mask", "dual_mask/cuda_forward.cuh",
        "keep[i] = tile.has(i) && !", "keep[i] = !", ("dual_mask",),
    ),
    Bug(
        "divergent barrier", KL, f"{KL}/cuda_rows.cuh",
        "block_sums(sums, buffer);\n  if (held.thread == 0) {",
        "block_sums(sums, buffer);\n  if (held.thread < kWarp) __syncthreads();\n"
        "  if (held.thread == 0) {",
        (KL,),
    ),
    Bug(
        "index of 32 bits", KL, f"{KL}/cuda_rows.cuh",
        "const int64_t row = place.block, begin = row * layer.pixels;",
        "const int row = int(place.block), begin = int(unsigned(row) * unsigned(layer.pixels));",
        (KL,),
    ),
    Bug(
        "index of 32 bits in a tile", "perturbation", "common/tiles.cuh",
        "origin = sample * samples.elements + begin;",
        "origin = int(uint32_t(sample * samples.elements + begin));", ("pgd_step_",),
    ),
    Bug(
        "dropped alpha", KL, f"{KL}/cuda_element.cuh",
        "logarithm(p + alpha) - logarithm(q + alpha)", "logarithm(p + alpha) - logarithm(q)", (KL,),
    ),
    Bug(
        "wrong sign in the gradient", KL, f"{KL}/cuda_held.cuh",
        "row.mean_second, k.alpha) : q - p;", "row.mean_second, k.alpha) : p - q;", (KL,),
    ),
    Bug(
        "a factor forgotten", KL, f"{KL}/cuda_layers.cuh",
        "if (!layer.factor) return", "if (!layer.factor_is_double) return", (KL,),
    ),
    Bug(
        "budget not held", "perturbation", "perturbation/cuda.cuh",
        "x - eps, x + eps);", "x - eps - eps, x + eps);", ("pgd_step_",),
    ),
    Bug(
        "a branch's weight forgotten", "dual_mask", "dual_mask/cuda_backward.cuh",
        "share * factor, branch, batch.weights", "share * factor, 1.0, batch.weights",
        ("dual_mask_backward",),
    ),
    Bug(
        "strided accesses", "perturbation", "common/tiles.cuh",
        "int(threadIdx.x) * V + i : i * kTileThreads + int(threadIdx.x)",
        "int(threadIdx.x) * V + i : int(threadIdx.x) * V + i", ("clamp_project",),
    ),
)  # fmt: skip


def planted(bug: Bug, folder: Path) -> Path:
    """A copy of kernels/ with the mistake in it."""
    kernels = folder / "kernels"
    shutil.copytree(ROOT / "kernels", kernels)
    path = kernels / bug.file
    text = path.read_text(encoding="utf-8")
    if text.count(bug.old) != 1:
        sys.exit(f"plant_bugs: {bug.name}: {bug.file} has the place {text.count(bug.old)} times")
    path.write_text(text.replace(bug.old, bug.new), encoding="utf-8")
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
    if row.get("beyond_one_extra") or row.get("bytes_over_floor", 0) > 1.5:
        return f"traffic: {row['case']}"
    return None


def reports(library: Path, ops: tuple[str, ...]) -> list[str]:
    """What the proof has to say of a library's ops."""
    done = subprocess.run(
        [
            sys.executable, "-m", "tools.proof.simt", "seen", "--quick",
            "--library", str(library), "--ops", *ops,
        ],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:  # a crash is found as well
        return [f"harness: {(done.stderr.splitlines() or ['died'])[-1]}"]
    rows = json.loads(done.stdout.splitlines()[-1])
    return [what for what in map(reported, rows) if what]


def run(bug: Bug) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = build.library_with(planted(bug, folder), bug.room, "seen", folder)
        return reports(library, bug.ops)


def main() -> None:
    chosen = [bug for bug in BUGS if not sys.argv[1:] or bug.name in sys.argv[1:]]
    if not chosen:
        sys.exit(f"plant_bugs: the names are {', '.join(bug.name for bug in BUGS)}")
    # A report means something only where the kernels as they are give none.
    ops = tuple(sorted({op for bug in chosen for op in bug.ops}))
    if false := reports(build.library("seen"), ops):
        sys.exit(f"plant_bugs: without any mistake there are reports: {false[0]}")
    survived = []
    for bug in chosen:
        found = run(bug)
        print(f"{bug.name}: {len(found)} reports; {found[0][:160] if found else 'NOT FOUND'}")
        sys.stdout.flush()
        if not found:
            survived.append(bug.name)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} planted mistakes found")
    if survived:
        sys.exit(1)


if __name__ == "__main__":
    main()
