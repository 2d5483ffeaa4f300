"""The medians of a file of ``python -m tools.bench defend``, as a table and a picture.

    python -m tools.bench.defend.picture FILE [-o PICTURE]

Rows of a machine that others had used for more than a tenth of its time are left out. The picture
needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.table import grid

BASE = "plain loop"
MOST_OTHERS = 0.1
COLORS = {
    "plain loop": "#9a9a9a",
    "onnxruntime script": "#e9a178",
    "openvino script": "#c8553d",
    "ours eager": "#1b6ca8",
    "ours onnxruntime": "#63a6d6",
    "ours openvino": "#7a9e57",
}

Row = dict[str, Any]


def medians(document: Row) -> dict[tuple[str, str], dict[str, Row]]:
    """{case and ANSM: {name: median of its rows}}, of rows that had the machine to themselves."""
    cores = document["cores"]
    found: dict[tuple[str, str], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in document["rows"]:
        others = row.get("others_cpu_seconds", 0.0)
        if "error" not in row and others <= MOST_OTHERS * cores * row["seconds"]:
            found[row["case"], row["ansm"]][row["name"]].append(row)
    return {
        case: {name: _median(rows) for name, rows in names.items()} for case, names in found.items()
    }


def _median(rows: list[Row]) -> Row:
    seconds = median(row["seconds"] for row in rows)
    first = rows[0]
    return {
        "seconds": seconds,
        "runs": len(rows),
        "turns": {row["turn"]: row["seconds"] for row in rows},
        "images_per_second": first["images"] / seconds,
        "megapixels_per_second": first["megapixels"] / seconds,
        "cpu_seconds": median(row["cpu_seconds"] for row in rows),
        "peak_mib": median(row["peak_mib"] for row in rows),
        "resident": {
            count: median(row["resident_mib"][count] for row in rows)
            for count in first["resident_mib"]
        },
    }


def _times(base: Row | None, row: Row) -> str:
    """How many times as fast in the same turns: a machine's speed changes between them."""
    both = sorted(base["turns"].keys() & row["turns"].keys()) if base else []
    if base is None or not both:
        return ""
    return f"{median(base['turns'][turn] / row['turns'][turn] for turn in both):.2f}×"


def table(document: Row) -> str:
    """A row for each case and way; how many times as fast as the plain loop."""
    rows = []
    for (case, ansm), names in medians(document).items():
        for name, row in names.items():
            times = _times(names.get(BASE), row)
            resident = list(row["resident"].values())[-1]
            rows.append(
                [
                    case.replace(":", " of "),
                    ansm,
                    name,
                    f"{row['images_per_second']:.2f}",
                    f"{row['megapixels_per_second']:.2f}",
                    times,
                    f"{row['cpu_seconds']:.1f} s",
                    f"{row['peak_mib']:.0f} / {resident:.0f} MiB",
                    str(row["runs"]),
                ]
            )
    head = [
        "images",
        "ANSM",
        "way",
        "images/s",
        "megapixels/s",
        "beside the plain loop",
        "CPU",
        "memory, most / at the end",
        "runs",
    ]
    return grid(head, rows)


def draw(document: Row, path: Path) -> None:
    """Megapixels a second of each way, for each case that has a plain loop."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    cases = {case: names for case, names in medians(document).items() if len(names) > 3}
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.75 * len(cases)))
    height = 0.8 / len(COLORS)
    for index, (name, color) in enumerate(COLORS.items()):
        places = [place for place, names in enumerate(cases.values()) if name in names]
        widths = [n[name]["megapixels_per_second"] for n in cases.values() if name in n]
        offset = (index - (len(COLORS) - 1) / 2) * height
        axes.barh([place + offset for place in places], widths, height, label=name, color=color)
    axes.set_yticks(range(len(cases)), [f"{case.split(':')[1]}, {ansm}" for case, ansm in cases])
    axes.invert_yaxis()
    axes.set_xlabel("megapixels a second, file to file")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    document = json.loads(arguments.result.read_text(encoding="utf-8"))
    print(table(document))
    if arguments.output:
        draw(document, arguments.output)


if __name__ == "__main__":
    main()
