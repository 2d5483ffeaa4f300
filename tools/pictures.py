"""Draws each op's data flow and roofline, and writes the table of the roofline's model.

    python -m tools.pictures [--ops OP ...]

Writes data_flow.svg, roofline.svg and roofline.md of kernels/<op>/, from launches.yaml and
instructions.json there. Nothing here was measured: bytes are those of the op's README,
instructions those that tools.instructions counted in the machine code, and the GPUs' figures
NVIDIA's datasheets'. Needs matplotlib.
"""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from ansm_fast.evaluation.tables import write_markdown
from tools import commands
from tools.ops import KERNELS, launches

MODEL = "model, from datasheets; nothing here was measured on a GPU"
BLUE, ORANGE, GREEN, GREY = "#dbe9f6", "#fde3cf", "#dff0dc", "#5f6368"
plt.rcParams |= {"svg.hashsalt": "ansm_fast", "font.size": 9, "figure.facecolor": "white"}


# --- data flow ------------------------------------------------------------------------------------


TITLE_X, READ_X, CHIP_X, WRITE_X, WIDTH = 0.0, 2.1, 5.0, 10.0, 12.4
BOX, GAP = 0.62, 0.16  # of a launch, in inches


def box(axes: Axes, x: float, y: float, width: float, color: str, text: str, wrap: int) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, BOX, boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=color, edgecolor=GREY, linewidth=0.7,
        )
    )  # fmt: skip
    text = re.sub(r"(\d+) B\b", "\\1\u00a0B", text)  # never apart
    lines = "\n".join(textwrap.wrap(text, wrap))
    axes.text(x + width / 2, y + BOX / 2, lines, ha="center", va="center", color="#202124")


def arrow(axes: Axes, begin: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate(
        "", end, begin, arrowprops={"arrowstyle": "-|>", "color": GREY, "shrinkA": 0, "shrinkB": 0}
    )


def draw_flow(op: str, unit: str, strips: list[dict[str, Any]]) -> None:
    height = 0.75 + sum(len(s["launches"]) * (BOX + GAP) + 0.2 - GAP for s in strips)
    figure, axes = plt.subplots(figsize=(WIDTH, height))
    figure.subplots_adjust(0, 0, 1, 1)
    axes.set(xlim=(-0.1, WIDTH - 0.1), ylim=(0, height))
    axes.axis("off")
    y = height - 0.3
    axes.text(TITLE_X, y, op, weight="bold", size=11, va="center")
    axes.text(READ_X, y, unit, va="center", color=GREY)
    y -= 0.27
    for x, text in (
        (READ_X, "read from memory"), (CHIP_X, "launch, and what stays on the chip"),
        (WRITE_X, "written to memory"),
    ):  # fmt: skip
        axes.text(x, y, text, va="center", color=GREY, style="italic")
    y -= 0.15
    for strip in strips:
        axes.plot([TITLE_X, WIDTH - 0.2], [y, y], color="#dadce0", linewidth=0.8)
        y -= 0.1
        for number, launch in enumerate(strip["launches"]):
            low = y - BOX
            middle = low + BOX / 2
            if number == 0:
                axes.text(TITLE_X, middle + 0.1, strip["title"], weight="bold", va="center")
                axes.text(TITLE_X, middle - 0.12, strip["total"], va="center", color=GREY)
            box(axes, READ_X, low, 2.6, BLUE, launch["reads"], 36)
            box(axes, CHIP_X, low, 4.7, GREEN, "", 1)
            axes.text(
                CHIP_X + 0.1,
                low + BOX - 0.13,
                launch["kernel"],
                va="center",
                weight="bold",
                size=8.5,
            )
            lines = "\n".join(textwrap.wrap(launch["chip"], 76))
            axes.text(CHIP_X + 0.1, low + 0.22, lines, va="center", size=8)
            box(axes, WRITE_X, low, 2.2, ORANGE, launch["writes"], 30)
            if number > 0:
                arrow(axes, (CHIP_X + 2.35, y + GAP), (CHIP_X + 2.35, y))
            arrow(axes, (READ_X + 2.6, middle), (CHIP_X, middle))
            arrow(axes, (CHIP_X + 4.7, middle), (WRITE_X, middle))
            y = low - GAP
        y += GAP - 0.1
    save(figure, KERNELS / op / "data_flow.svg")


def save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


# --- roofline -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gpu:
    """Bytes and operations a second, of a datasheet; a fused product-sum is two operations there.

    The rates of other instructions, for each multiprocessor and clock, are those of CUDA's
    programming guide; ``lanes`` are its float32 units.
    """

    name: str
    bandwidth: float
    operations: float  # float32
    wide_operations: float  # float64
    lanes: int
    color: str

    @property
    def rates(self) -> dict[str, float]:
        """Instructions a second: of one lane times the lanes of their unit."""
        lane = self.operations / 2 / self.lanes
        return {
            "float32": self.operations / 2,
            "compare": 64 * lane,
            "float64": self.wide_operations / 2,
            "special": 16 * lane,
            "issue": 128 * lane,  # of any kind: four warps
        }


GPUS = {
    "A100": Gpu("A100 80GB SXM", 2.039e12, 19.5e12, 9.7e12, 64, "#1a73e8"),
    "H100": Gpu("H100 SXM", 3.35e12, 67e12, 34e12, 128, "#d93025"),
}


Kernel = dict[str, Any]  # of launches.yaml
Counts = dict[str, dict[str, dict[str, dict[str, float]]]]  # of instructions.json
DTYPES = {"float32": ("o", "full"), "bfloat16": ("o", "none")}


def intensity(counts: dict[str, float], size: int) -> float:
    """Sums and products a byte; one of float64 takes as long as two of float32."""
    return (counts["float32"] + 2 * counts["float64"]) / size


def shares(gpu: Gpu, counts: dict[str, float], size: int) -> tuple[float, str]:
    """The busiest unit's time as a share of the memory's, and which unit that is."""
    memory, needed = size / gpu.bandwidth, counts | {"issue": sum(counts.values())}
    times = {unit: needed[unit] / rate for unit, rate in gpu.rates.items()}
    unit = max(times, key=lambda name: times[name])
    return times[unit] / memory, unit


def draw_roofline(op: str, kernels: list[Kernel], counted: Counts) -> None:
    low = 1.6 + 0.25 * len(kernels)
    figure, (roof, names) = plt.subplots(
        2, 1, sharex=True, figsize=(9.6, 3.8 + low), height_ratios=(3.8, low), layout="constrained"
    )
    figure.suptitle(f"Roofline: {MODEL}", size=11)
    x = [0.03, 0.1, 1, 10, 100]
    for key, gpu in GPUS.items():
        peak = gpu.rates["float32"]
        ridge = peak / gpu.bandwidth
        roof.plot(
            [x[0], ridge, x[-1]], [x[0] * gpu.bandwidth, peak, peak],
            color=gpu.color, linewidth=1.6,
        )  # fmt: skip
        for kernel in kernels:
            for dtype, (marker, fill) in DTYPES.items():
                at = intensity(counted[kernel["kernel"]][dtype][key], kernel["bytes"][dtype])
                roof.plot(
                    at, min(at * gpu.bandwidth, peak), marker, fillstyle=fill,
                    color=gpu.color, markersize=5,
                )  # fmt: skip
        roof.annotate(
            f"{gpu.name}\n{gpu.bandwidth / 1e12:.2f} TB/s, {gpu.operations / 1e12:g} TFLOP/s FP32",
            (x[-1], peak), (-6, 5), textcoords="offset points", ha="right", color=gpu.color,
        )  # fmt: skip
        for axes in (roof, names):
            axes.axvline(ridge, color=gpu.color, linewidth=0.8, linestyle="--")
        left = key == "A100"
        names.text(
            ridge * (0.96 if left else 1.04), -0.75, f"ridge of the {key}: {ridge:.1f}",
            color=gpu.color, ha="right" if left else "left", va="center", size=8.5,
        )  # fmt: skip
    roof.set(xscale="log", yscale="log", ylim=(1e11, 2e14))
    roof.set_ylabel("arithmetic instructions a second, at most")
    for row, kernel in enumerate(kernels):
        values = {
            dtype: intensity(counted[kernel["kernel"]][dtype]["H100"], kernel["bytes"][dtype])
            for dtype in DTYPES
        }
        names.plot(list(values.values()), [row, row], color="#bdc1c6", linewidth=1)
        for dtype, (marker, fill) in DTYPES.items():
            names.plot(values[dtype], row, marker, fillstyle=fill, color="#202124", markersize=6)
    for dtype, (marker, fill) in DTYPES.items():
        names.plot([], [], marker, fillstyle=fill, color="#202124", label=dtype, linestyle="")
    names.legend(loc="lower right", framealpha=1)
    names.set_yticks(range(len(kernels)), [kernel["label"] for kernel in kernels])
    names.set(ylim=(len(kernels) - 0.3, -1.3), xlim=(x[0], x[-1]))
    names.set_xlabel(
        "sums, products and fused ones for each byte read or written, counted in the machine code "
        "(of float64: two)"
    )
    for axes in (roof, names):
        axes.grid(color="#eceff1", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_xticks(x[1:], [f"{value:g}" for value in x[1:]])
    save(figure, KERNELS / op / "roofline.svg")


def table(kernels: list[Kernel], counted: Counts) -> str:
    lines = [
        "| kernel | bytes | float32 | compare | float64 | special | all | A100 | H100 "
        "| A100, bfloat16 | H100, bfloat16 |",
        "|---" * 11 + "|",
    ]
    for kernel in kernels:
        name = kernel["kernel"]
        counts = counted[name]["float32"]["H100"]
        cells = [f"`{name.split(',')[0]}` ({kernel['label']})", str(kernel["bytes"]["float32"])]
        cells += [f"{counts[kind]:.0f}" for kind in ("float32", "compare", "float64", "special")]
        cells.append(f"{sum(counts.values()):.0f}")
        for dtype in DTYPES:
            for key, gpu in GPUS.items():
                share, unit = shares(gpu, counted[name][dtype][key], kernel["bytes"][dtype])
                text = f"{100 * share:.0f} %, {unit}"
                cells.append(f"**{text}**" if share > 1 else text)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page(kernels: list[Kernel], counted: Counts) -> str:
    return (
        "![roofline](roofline.svg)\n\n"
        "A model: [how to read it](../../docs/kernels.md#roofline).\n\n"
        f"{table(kernels, counted)}\nMade by `python -m tools.pictures`.\n"
    )


def main() -> None:
    for op in commands.ops_of(__doc__):
        described = launches(op)
        if described.get("flow"):
            draw_flow(op, described["unit"], described["flow"])
        if kernels := described.get("counted"):
            text = (KERNELS / op / "instructions.json").read_text(encoding="utf-8")
            draw_roofline(op, kernels, json.loads(text))
            write_markdown(
                KERNELS / op / "roofline.md", page(kernels, json.loads(text)), "roofline"
            )


if __name__ == "__main__":
    main()
