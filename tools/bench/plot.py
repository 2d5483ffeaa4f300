"""Draws a result file of ``tools.gpu_check``: the share of copy bandwidth of each row.

    python -m tools.bench.plot results/gpu/NAME.json -o NAME.png [--mode calls]

Needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

COLORS = {
    "cuda": "#1b6ca8",
    "triton": "#63a6d6",
    "eager": "#c8553d",
    "compile": "#e9a178",
    "liger": "#7a9e57",
    "copy": "#9a9a9a",
}


def shares(rows: list[dict[str, Any]], mode: str) -> dict[str, dict[str, float]]:
    """{case and dtype: {implementation: share of copy bandwidth}}, in the order of the rows."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["mode"] == mode and not row.get("error"):
            name = f"{row['case']} {row['dtype']}"
            found.setdefault(name, {})[row["implementation"]] = row["share_of_copy"]
    return found


def draw(document: dict[str, Any], mode: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    found = shares(document["benchmark"]["rows"], mode)
    present = [name for name in COLORS if any(name in values for values in found.values())]
    height = 0.8 / max(1, len(present))
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.16 * len(present) * len(found)))
    for index, name in enumerate(present):
        places = [place for place, values in enumerate(found.values()) if name in values]
        widths = [100 * values[name] for values in found.values() if name in values]
        offset = (index - (len(present) - 1) / 2) * height
        axes.barh([p + offset for p in places], widths, height, label=name, color=COLORS[name])
    axes.axvline(90, color="black", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(found)), list(found))
    axes.invert_yaxis()
    axes.set_xlabel("bytes that must move / time, % of the device's measured copy bandwidth")
    gpu, facts = document["facts"]["gpu"], document["facts"]
    where = gpu["name"] if gpu else "no GPU"
    axes.set_title(f"{where}, torch {facts['torch']}, {document['date']}, {mode}", fontsize=10)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--mode", choices=("calls", "graph"), default="graph")
    arguments = parser.parse_args()
    document = json.loads(arguments.result.read_text(encoding="utf-8"))
    if not document.get("benchmark"):
        parser.error(f"{arguments.result} holds no benchmark")
    draw(document, arguments.mode, arguments.output)


if __name__ == "__main__":
    main()
