"""Pictures of an evaluation: F1 against the budget, and strips of example images."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ansm_fast.data import FolderDataset
from ansm_fast.errors import InputError
from ansm_fast.evaluation.catalogue import CATALOGUE
from ansm_fast.evaluation.defences import Defence, is_ansm, title
from ansm_fast.evaluation.metrics import THRESHOLD
from ansm_fast.evaluation.rows import Cell, Measurement, Row
from ansm_fast.evaluation.scoring import probability
from ansm_fast.evaluation.tables.layout import defences, floors, sets
from ansm_fast.evaluation.targets import Systems
from ansm_fast.images.atomic import write_bytes
from ansm_fast.images.photograph import Image
from ansm_fast.images.pixels import read_rgb

STRIP_ATTACKS = ("pgd", "hide", "adaptive")
STRIP_IMAGES = 4
_INCHES = 2.2


def _figure(width: float, height: float) -> Any:
    """A matplotlib figure that no window and no global state belongs to."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            "--plots needs matplotlib; pip install 'ansm-fast[evaluate]' or leave --plots out"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def check_plots() -> None:
    """Raise InputError if matplotlib is missing: before the work."""
    _figure(1, 1)


def _file_name(*parts: str) -> str:
    words = "-".join(part for part in parts if part)
    return re.sub(r"[^\w.-]+", "_", words).strip("_.") + ".png"


def _save(figure: Any, path: Path, written: Sequence[Path]) -> Path:
    """Write a picture whole or not at all, and over none of those that this call has written."""
    own, number = path, 2
    while path in written:  # names of two sets that differ in what a file's name doesn't hold
        path, number = own.with_stem(f"{own.stem}-{number}"), number + 1
    content = io.BytesIO()
    figure.savefig(content, dpi=110, format="png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content.getvalue())
    except OSError as error:
        raise InputError(
            f"cannot write {path} ({error.strerror}); give another folder to --plots"
        ) from error
    return path


def _curve(axes: Any, rows: Sequence[Row], attack: str, defence: str, style: str) -> None:
    shown = [r for r in rows if r["defence"] == defence and r["attack"] in ("none", attack)]
    shown = sorted((r for r in shown if r["f1"] is not None), key=lambda r: r["eps"])
    if not shown:
        return
    levels = [row["eps"] * 255 for row in shown]
    line = axes.plot(levels, [row["f1"] for row in shown], style, label=title(defence))[0]
    if is_ansm(defence):
        low, high = ([row[f"f1_{end}"] for row in shown] for end in ("low", "high"))
        axes.fill_between(levels, low, high, color=line.get_color(), alpha=0.2, linewidth=0)


def robustness(rows: Sequence[Row], folder: Path) -> list[Path]:
    """One picture an image set: a panel for each attack, F1 against eps for each defence, the
    ANSM's with its interval, and the floors. Sets without a forged image or an attack get none."""
    written: list[Path] = []
    for name, found in sets(rows).items():
        attacks = [a for a in dict.fromkeys(r["attack"] for r in found) if a != "none"]
        if not attacks or not found[0]["n"]:
            continue
        across = min(4, len(attacks))
        down = -(-len(attacks) // across)
        figure = _figure(3.2 * across, 2.6 * down + 0.8)
        panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for axes, attack in zip(panels.flat, attacks, strict=False):
            for defence in defences(found):
                _curve(axes, found, attack, defence, "o-" if is_ansm(defence) else ".--")
            for floor, row in floors(found):
                axes.axhline(row["f1"], color="grey", linestyle=":", linewidth=1, label=floor)
            axes.set_title(CATALOGUE[attack].title, fontsize=9)
            axes.grid(alpha=0.3)
            axes.set_ylim(0, 1)
        for axes in panels.flat[len(attacks) :]:
            axes.set_axis_off()
        for axes in panels[-1]:
            axes.set_xlabel("budget, grey levels", fontsize=8)
        figure.supylabel("F1 at 0.5", fontsize=9)
        handles, labels = panels.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=8)
        written.append(_save(figure, folder / _file_name("robustness", name), written))
    return written


def _strip_cells(measured: Measurement, defence: str) -> list[Cell]:
    """The cells that are drawn: of each of a few attacks the one nearest to 4/255."""
    found: list[Cell] = []
    for attack in STRIP_ATTACKS:
        cells = [c for c in measured.cells if (c.attack, c.defence) == (attack, defence)]
        if cells:
            found.append(min(cells, key=lambda cell: abs(cell.eps - 4 / 255)))
    return found


def _strip(
    cell: Cell, defence: Defence, dataset: FolderDataset, systems: Systems, indices: Sequence[int]
) -> Any:
    heads = ["image", "true mask", "mask found", "attacked", "mask found"]
    heads += ["defended", "mask found"]
    figure = _figure(_INCHES * len(heads), _INCHES * len(indices) + 0.5)
    panels = figure.subplots(len(indices), len(heads), squeeze=False)

    def mask(image: Image) -> Any:
        found = probability(systems.localizer, image, systems.device)
        return found.cpu().numpy() > THRESHOLD

    for row, index in zip(panels, indices, strict=True):
        sample, attacked = dataset[index], read_rgb(cell.images[index])
        defended = defence(attacked)
        shown = [sample["image"], sample["mask"], mask(sample["image"]), attacked, mask(attacked)]
        for axes, picture in zip(row, [*shown, defended, mask(defended)], strict=True):
            grey = {"cmap": "gray", "vmin": 0, "vmax": 1} if picture.ndim == 2 else {}
            axes.imshow(np.asarray(picture), interpolation="nearest", **grey)
            axes.set_xticks([])
            axes.set_yticks([])
    for axes, head in zip(panels[0], heads, strict=True):
        axes.set_title(head, fontsize=9)
    budget = f"{round(cell.eps * 255, 3):g}/255"
    figure.suptitle(f"{CATALOGUE[cell.attack].title}, {budget}; {defence.title}", fontsize=10)
    return figure


def strips(
    measured: Measurement, dataset: FolderDataset, systems: Systems, folder: Path
) -> list[Path]:
    """Image, attacked, defended and the masks found in each, of the first forged images: one
    picture for each of a few attacks and each ANSM (for each defence if there is no ANSM)."""
    count = len(measured.baseline)
    forged = [i for i in range(count) if "f1" in measured.baseline[i]][:STRIP_IMAGES]
    if not forged:
        return []
    shown = [one for one in systems.defences if is_ansm(one.name)]
    shown = shown or [one for one in systems.defences if one.name != "none"]
    written: list[Path] = []
    for defence in shown:
        for cell in _strip_cells(measured, defence.name):
            figure = _strip(cell, defence, dataset, systems, forged)
            budget = f"{round(cell.eps * 255, 3):g}"
            name = _file_name("strip", measured.name, defence.name, cell.attack, budget)
            written.append(_save(figure, folder / name, written))
    return written
