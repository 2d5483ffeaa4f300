"""Where the time and the memory of a training step of a two-view ANSM go.

    python -m tools.training_step --localizer NAME --data DIR [--preset quick|standard|thorough]
        [--device cpu|cuda] [-o results/training/step_NAME.json]

A row for each stage (detection, FFA, MgR): seconds of its parts a step, and the peak of memory that
the step adds.

data       crops of the cache and of their originals, decoded already
attack     the cache and its renewal, spread over all steps of the run
localizer  forward and backward of what the writer's stages send through it
ansm       the rest of forward and backward
optimizer  clipping, AdamW

The attacks' share of the whole run and the run's minutes follow from the preset's numbers of steps.
The machine should do nothing else. On a GPU the memory is what torch allocated, on a CPU the
process's resident set.
"""

from __future__ import annotations

import ctypes
import math
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ansm_fast.attacks import CountedLocalizer
from ansm_fast.localizers import load_localizer
from ansm_fast.training.ansm import find_taps, make_task
from ansm_fast.training.ansm_config import ANSMRun
from ansm_fast.training.attack_cache import BATCH, AttackCache, attack_part, renewed_attack
from ansm_fast.training.batches import MemorySet
from ansm_fast.training.config import parse_run
from ansm_fast.training.inspection import median_seconds
from ansm_fast.training.networks import make_network
from ansm_fast.training.stages import FrozenLocalizer
from ansm_fast.training.yaml_file import read_yaml
from benchmarks.table import grid
from tools import commands
from tools.facts import machine
from tools.ops import ROOT
from tools.results import write_dated

CONFIGS = ROOT / "ansm_fast" / "training" / "configs"
STAGES = ("detection", "FFA", "MgR")
PARTS = ("data", "attack", "localizer", "ansm", "optimizer")


@dataclass(frozen=True)
class Row:
    """One stage: its steps in the run, seconds of its parts, and bytes that a step adds."""

    stage: str
    steps: int
    seconds: dict[str, float]
    peak: int

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def peak_of(work: Callable[[], object], device: torch.device) -> int:
    """Bytes by which the peak of memory rises above what is held before ``work``."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    ctypes.CDLL(None).malloc_trim(0)  # what is free inside the process would hide what it takes
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is what is held now
    before = _resident("VmRSS")
    work()
    return max(0, _resident("VmHWM") - before)


def _resident(field: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{field}:\s+(\d+) kB", text)
    assert found is not None
    return 1024 * int(found[1])


def attack_seconds(
    run: ANSMRun, localizer: nn.Module, data: MemorySet, device: torch.device
) -> float:
    """Seconds of one attacked image: a mean over parts of a cache, each by an attack of its own."""
    counted = CountedLocalizer(FrozenLocalizer(localizer, run.precision))
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for part in range(9):
            indices = np.arange(part * BATCH, (part + 1) * BATCH) % len(data)
            started = time.perf_counter()
            attack_part(
                Path(folder) / f"{part}.safetensors", renewed_attack(run, part, 1), indices,
                counted, data, device,
            )  # fmt: skip
            taken.append(time.perf_counter() - started)
    return float(np.mean(taken[1:])) / BATCH  # the first one warms up


def measured(run: ANSMRun, device: torch.device) -> list[Row]:
    """Time the stages of a run on the first images of its training set."""
    localizer = load_localizer(run.localizer).to(device)
    data = MemorySet.training(run.data)
    count = min(len(data), 64)
    cache = AttackCache(
        data.images[:count], np.arange(count), np.full(count, 4.0), np.full(count, "pgd_hide")
    )
    made = math.ceil(run.attack_cache_size / BATCH) * BATCH
    if run.renew_every:
        made += BATCH * (run.steps // run.renew_every)
    attack = attack_seconds(run, localizer, data, device) * made / run.steps
    timed = run.model_copy(update={"renew_every": 0})
    with tempfile.TemporaryDirectory() as scratch:
        task = make_task(
            timed, make_network(timed, localizer), localizer, find_taps(timed, localizer), data,
            cache, dict, Path(scratch), device,
        )  # fmt: skip
        learning = task.learning().to(device).train()
        optimizer = torch.optim.AdamW(learning.parameters(), lr=1e-6)
        detect, ffa = run.detect.steps, run.ffa.steps
        firsts = (0, detect, detect + ffa)
        lasts = (detect, detect + ffa, run.steps)
        rows = []
        for stage, first, last in zip(STAGES, firsts, lasts, strict=True):
            if first == last:
                continue
            batch = [tensor.to(device) for tensor in task.batch(first)]

            def through(first: int = first, batch: list[Tensor] = batch) -> None:
                learning.zero_grad()
                task.loss(first, *batch)["loss"].backward()

            def update() -> None:
                nn.utils.clip_grad_norm_(learning.parameters(), 1.0)
                optimizer.step()

            both = median_seconds(through, device, repeats=3)
            own = 0.0
            if stage != "detection":
                own = localizer_seconds(run, localizer, batch[:2], stage, device)
            seconds = {
                "data": median_seconds(lambda first=first: task.batch(first), device, repeats=3),  # type: ignore[misc]
                "attack": attack,
                "localizer": own,
                "ansm": max(0.0, both - own),
                "optimizer": median_seconds(update, device, repeats=3),
            }
            rows.append(Row(stage, last - first, seconds, peak_of(through, device)))
    return rows


def localizer_seconds(
    run: ANSMRun, localizer: nn.Module, images: list[Tensor], stage: str, device: torch.device
) -> float:
    """Of what one step sends through the localizer: the originals for their own masks, then, with
    gradients, the attacked images, and in MgR the originals once more."""
    frozen = FrozenLocalizer(localizer, run.precision)
    attacked, original = images
    sent = attacked if stage == "FFA" else torch.cat([attacked, original])

    def work() -> None:
        with torch.no_grad():
            frozen(original)
        frozen(sent.clone().requires_grad_()).sum().backward()

    return median_seconds(work, device, repeats=3)


def preset(name: str, localizer: str, data: Path) -> ANSMRun:
    values = read_yaml(CONFIGS / f"{name}.yaml", "")
    values |= {"localizer": localizer, "data": values["data"] | {"train": str(data)}}
    run = parse_run(values, name)
    assert isinstance(run, ANSMRun)
    return run


def document(rows: list[Row], run: ANSMRun, preset: str, device: torch.device) -> dict[str, Any]:
    whole = sum(row.steps * row.total for row in rows)
    attacks = sum(row.steps * row.seconds["attack"] for row in rows)
    on_gpu = device.type == "cuda"
    return {
        "localizer": str(run.localizer),
        "preset": preset,
        "device": torch.cuda.get_device_name(device) if on_gpu else machine()["cpu"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "crop": run.crop,
        "batch_size": run.batch_size,
        "detect": {"crop": run.detect.crop, "batch_size": run.detect.batch_size},
        "attack_share": round(attacks / whole, 4),
        "minutes": round(whole / 60, 2),
        "rows": [
            {"stage": row.stage, "steps": row.steps, "peak_bytes": row.peak}
            | {part: round(row.seconds[part], 5) for part in PARTS}
            for row in rows
        ],
    }


def table(found: dict[str, Any]) -> str:
    lines = []
    for row in found["rows"]:
        total = sum(row[part] for part in PARTS)
        cells = [f"{1000 * row[part]:.0f} ms ({100 * row[part] / total:.0f} %)" for part in PARTS]
        memory = f"{row['peak_bytes'] / 2**20:.0f} MiB"
        lines.append([row["stage"], str(row["steps"]), *cells, f"{1000 * total:.0f} ms", memory])
    told = (
        f"Localizer `{found['localizer']}`, preset `{found['preset']}`, {found['threads']} threads "
        f"of {found['device']}, torch {found['torch']}: attacks take "
        f"{100 * found['attack_share']:.0f} % of {found['minutes']:.0f} minutes, validation not "
        "counted."
    )
    return f"{told}\n\n{grid(['stage', 'steps', *PARTS, 'a step', 'memory'], lines)}"


def main() -> None:
    parser = commands.parser_of(__doc__)
    parser.add_argument("--localizer", default="robust")
    parser.add_argument("--data", type=Path, required=True, help="with images/ and masks/")
    parser.add_argument("--preset", choices=("quick", "standard", "thorough"), default="standard")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    run = preset(options.preset, options.localizer, options.data)
    found = document(measured(run, device), run, options.preset, device)
    print(table(found))
    if options.output:
        write_dated(options.output, found)


if __name__ == "__main__":
    main()
