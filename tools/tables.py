"""Writes every result table of README and docs/ from the files in results/.

    python -m tools.tables

Each table stands between two marks, `<!-- table:NAME -->` and `<!-- /table:NAME -->`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansm_fast.evaluation import FLOORS
from ansm_fast.evaluation.tables import markdown, write_markdown
from benchmarks.table import full_table, grid, short_table, where
from tools.bench.defend.picture import table as defend_table
from tools.gpu import results as gpu_results
from tools.training_step import table as step_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
CPU = RESULTS / "benchmarks" / "cpu.json"
DEFEND = RESULTS / "benchmarks" / "defend.json"
GPU = RESULTS / "gpu" / "nvidia-h100-80gb-hbm3-2026-11-27.json"
MADE_BY = "Made by `python -m tools.tables`."

# README's rows, by the names of the evaluation, of the benchmarks and of the GPU's benchmark.
ATTACKS = {
    "none": "no attack",
    "pgd": "PGD",
    "hide": "PGD that hides the forgery",
    "cw": "C&W (L2)",
    "noise": "random noise",
    "tifgsm": "TI-FGSM",
    "adaptive": "PGD through the defence itself",
    "adaptive-worst": "the worst of three attacks through the defence itself",
}
# The localizers of docs/evaluation_victims.md, and the results of their ANSMs.
VICTIMS = {
    "`builtin`, noise residuals": "two_view",
    "`rgb`, pixels alone": "victim_rgb",
    "SegFormer": "victim_segformer",
}
VICTIM_ATTACKS = {
    "none": "no attack",
    "pgd": "PGD",
    "fgsm": "FGSM",
    "hide": "PGD, hide ‡",
    "wrong-mask": "PGD, wrong mask ‡",
    "difgsm": "DI-FGSM (unseen)",
    "tifgsm": "TI-FGSM (unseen)",
    "pgd-l2": "PGD, L2 (unseen)",
    "universal": "universal ‡ (unseen)",
    "noise": "random noise ‡",
}
WORK = {
    "channelwise_kl forward+backward": "channel-wise KL, forward + backward, 8×256×64×64",
    "channelwise_kl channels_last": "the same, channels-last",
    "dual_mask forward+backward": "dual-mask loss, forward + backward, 8×1×512×512",
    "pgd_step_": "one PGD step, 8×3×512×512",
    "image_unpack": "floats to 8-bit images, 8×3×512×512",
}
GPU_CASES = {
    "channel-wise KL, forward + backward, 16×512×128×128": [
        "channelwise_kl forward+backward 16x512x128x128"
    ],
    "the same, channels-last": ["channelwise_kl channels_last 16x512x128x128"],
    "dual-mask loss, forward + backward, 16×1×1024×1024": [
        "dual_mask forward+backward 16x1x1024x1024"
    ],
    "project, PGD and momentum steps, 32×3×1024×1024": [
        f"{op} 32x3x1024x1024" for op in ("clamp_project", "pgd_step_", "momentum_step_")
    ],
    "8-bit images to floats and back, 32×3×1024×1024": [
        f"{op} 32x3x1024x1024" for op in ("image_pack", "image_unpack")
    ],
}


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def full_evaluation(name: str) -> str:
    """All tables of an evaluation, as `ansm-fast evaluate --markdown` writes them."""
    document = _read(RESULTS / "evaluation" / f"{name}.json")
    return markdown(document["rows"], document["command"], document.get("attacked", ()))


def short_evaluation() -> str:
    """F1 of a few attacks, and what the defence marks in pristine images; then the floors. A result
    file of an earlier version has no floors, and one adaptive attack in place of the worst."""
    rows = {
        (row["attack"], row["defence"]): row
        for row in _read(RESULTS / "evaluation" / "robust.json")["rows"]
    }
    left_out = "adaptive" if ("adaptive-worst", "ansm") in rows else "adaptive-worst"
    lines = []
    for attack, title in ATTACKS.items():
        if attack == left_out:
            continue
        found = [rows.get((attack, defence)) for defence in ("none", "jpeg", "ansm")]
        best = max(row["f1"] for row in found if row)
        shown = ["–" if row is None else f"{row['f1']:.3f}" for row in found]
        cells = [
            f"**{text}**" if row and row["f1"] == best else text
            for row, text in zip(found, shown, strict=True)
        ]
        lines.append([title, *cells, f"{100 * rows[attack, 'ansm']['area_pristine']:.0f} %"])
    for floor, title in FLOORS.items():
        row = rows.get(("none", floor))
        if row is not None:
            lines.append(
                [f"*{title}*", *[f"{row['f1']:.3f}"] * 3, f"{100 * row['area_pristine']:.0f} %"]
            )
    head = ["attack", "no defence", "JPEG-75", "ANSM", "ANSM: pristine area marked"]
    return grid(head, lines)


def victims() -> str:
    """Several unchanged localizers, each with an ANSM of its own: F1 by attack."""
    documents = {
        title: {(row["attack"], row["defence"]): row for row in _read(path)["rows"]}
        for title, name in VICTIMS.items()
        if (path := RESULTS / "evaluation" / f"{name}.json").exists()
    }
    lines = []
    for attack, title in VICTIM_ATTACKS.items():
        cells = []
        for rows in documents.values():
            found = [rows.get((attack, defence)) for defence in ("none", "jpeg", "ansm")]
            if None in found:
                cells.append("–")
                continue
            plain, jpeg, ansm = (row for row in found if row is not None)
            share = ansm["f1"] / rows["none", "none"]["f1"]
            cells.append(
                f"{plain['f1']:.3f}, {jpeg['f1']:.3f}, **{ansm['f1']:.3f}** "
                f"({100 * share:.0f} %; {100 * ansm['area_pristine']:.0f} %)"
            )
        lines.append([title, *cells])
    for floor, title in FLOORS.items():
        floors = (rows["none", floor] for rows in documents.values())
        lines.append([f"*{title}*", *(f"{row['f1']:.3f}" for row in floors)])
    return grid(["attack", *documents], lines)


def short_benchmark() -> str:
    document = _read(CPU)
    return f"{where(document)}:\n\n{short_table(document['results'], WORK)}"


def full_benchmark() -> str:
    document = _read(CPU)
    return f"{where(document)}:\n\n{full_table(document['results'])}\n{MADE_BY}\n"


def training_step() -> str:
    return step_table(_read(RESULTS / "training" / "step_builtin.json"))


def _range(values: Sequence[float], digits: int, unit: str) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return f"{low}{unit}" if low == high else f"{low}–{high}{unit}"


def short_gpu() -> str:
    """Shares of the device's copy bandwidth in replays of a CUDA graph, float32."""
    rows = {
        (row["case"], row["implementation"]): row
        for row in _read(GPU)["benchmark"]["rows"]
        if row["mode"] == "graph" and row["dtype"] == "float32" and not row.get("error")
    }

    def cells(cases: Sequence[str]) -> list[str]:
        shares = [
            _range([100 * rows[case, name]["share_of_copy"] for case in cases], 0, " %")
            for name in ("cuda", "triton")
        ]
        ratios = [rows[c, "eager"]["p50_ms"] / rows[c, "cuda"]["p50_ms"] for c in cases]
        return [*shares, _range(ratios, 1, "×")]

    head = ["float32", "`cuda`", "`triton`", "`cuda` is faster than eager"]
    return grid(head, [[title, *cells(cases)] for title, cases in GPU_CASES.items()])


@dataclass(frozen=True)
class Table:
    """What stands between the marks ``name`` of a page."""

    page: str
    name: str
    text: Callable[[], str]


TABLES = (
    Table("README.md", "evaluation", short_evaluation),
    Table("README.md", "benchmarks", short_benchmark),
    Table("README.md", "gpu", short_gpu),
    Table("docs/evaluation.md", "evaluation", lambda: full_evaluation("robust")),
    Table("docs/evaluation_builtin.md", "evaluation", lambda: full_evaluation("builtin")),
    Table("docs/evaluation_victims.md", "victims", victims),
    Table("docs/benchmarks.md", "benchmarks", full_benchmark),
    Table("docs/benchmarks.md", "defend", lambda: defend_table(_read(DEFEND))),
    Table("docs/training.md", "training_step", training_step),
    Table("docs/gpu_results.md", "gpu_results",
          lambda: gpu_results.page_text(gpu_results.committed())),
)  # fmt: skip


def main(tables: Sequence[Table] = TABLES) -> None:
    for table in tables:
        write_markdown(ROOT / table.page, table.text(), table.name)


if __name__ == "__main__":
    main()
