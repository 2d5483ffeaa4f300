"""From scores of images to rows: means, their intervals, and what a defence restores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ansm_fast.evaluation.bootstrap import interval, resampled_means
from ansm_fast.evaluation.catalogue import CATALOGUE
from ansm_fast.evaluation.floors import FLOORS
from ansm_fast.evaluation.metrics import Scores
from ansm_fast.evaluation.provenance import Training

Row = dict[str, Any]

FORGED_KEYS = ("f1", "f1_best", "iou", "auc", "mcc", "f1_permuted")
QUALITY_KEYS = ("psnr", "ssim", "psnr_attacked", "ssim_attacked", "attack_score")


@dataclass
class Cell:
    """One attack at one eps behind one defence: every image's scores, and the attacked images."""

    attack: str
    eps: float
    defence: str
    records: list[Scores]
    images: list[Path]


@dataclass
class Measurement:
    """One image set.

    Attributes:
        cells: of every attack, budget and defence.
        baseline: scores of the unattacked images without a defence.
        floors: scores of masks that know nothing of the images, by name; see ``floors``.
        harmless: by defence that detects attacks, its attack scores of every image, unattacked and
            after harmless changes; see ``harmless``.
    """

    name: str
    cells: list[Cell]
    baseline: list[Scores]
    floors: dict[str, list[Scores]] = field(default_factory=lambda: {name: [] for name in FLOORS})
    harmless: dict[str, list[Scores]] = field(default_factory=dict)


def pool(measurements: Sequence[Measurement], name: str = "pooled") -> Measurement:
    """Join all image sets into one. They must have been measured under one protocol."""
    cells: dict[tuple[str, float, str], Cell] = {}
    for cell in (cell for one in measurements for cell in one.cells):
        key = (cell.attack, cell.eps, cell.defence)
        if key in cells:
            cells[key].records += cell.records
            cells[key].images += cell.images
        else:
            cells[key] = Cell(*key, [*cell.records], [*cell.images])
    baseline = [record for one in measurements for record in one.baseline]
    together = Measurement(name, list(cells.values()), baseline)
    for one in measurements:
        for floor, records in one.floors.items():
            together.floors[floor] += records
        for defence, records in one.harmless.items():
            together.harmless[defence] = together.harmless.get(defence, []) + records
    return together


def _harm(record: Scores) -> float:
    """Larger where the localizer does worse."""
    return -record["f1"] if "f1" in record else record["area_pristine"]


def worst_cells(cells: Sequence[Cell], name: str, parts: Sequence[str]) -> list[Cell]:
    """Make the cells of ``name``: of every image what the worst of the attacks ``parts`` did, the
    lowest F1, of a pristine one the largest area marked. Defences that lack a part get none."""
    found: dict[tuple[float, str], dict[str, Cell]] = {}
    for cell in cells:
        if cell.attack in parts:
            found.setdefault((cell.eps, cell.defence), {})[cell.attack] = cell
    worst: list[Cell] = []
    for (eps, defence), by_name in found.items():
        if len(by_name) < len(parts):
            continue
        chosen = [
            max(zip(records, images, strict=True), key=lambda one: _harm(one[0]))
            for records, images in zip(
                zip(*(cell.records for cell in by_name.values()), strict=True),
                zip(*(cell.images for cell in by_name.values()), strict=True),
                strict=True,
            )
        ]
        records, images = ([one[k] for one in chosen] for k in (0, 1))
        worst.append(Cell(name, eps, defence, records, images))  # type: ignore[arg-type]
    return worst


def _column(records: Sequence[Scores], key: str) -> list[float]:
    return [record.get(key, math.nan) for record in records]


def _forged(records: Sequence[Scores]) -> list[Scores]:
    return [record for record in records if "f1" in record]


def _mean(values: Sequence[float], digits: int = 4) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return round(float(np.mean(finite)), digits) if finite else None


def _with_interval(key: str, value: float | None, samples: Any) -> Row:
    """``key``, ``key_low`` and ``key_high``."""
    limits = interval(samples) if value is not None else None
    low, high = (None, None) if limits is None else (round(limits[0], 4), round(limits[1], 4))
    return {key: value, f"{key}_low": low, f"{key}_high": high}


def _forged_figures(
    records: Sequence[Scores],
    baseline: Sequence[Scores],
    undefended: Sequence[Scores] | None,
    seed: int,
) -> Row:
    """Of the forged images alone; every interval from the same draws of images."""
    columns = [_column(records, key) for key in FORGED_KEYS]
    columns.append(_column(baseline, "f1"))
    columns.append(_column(undefended, "f1") if undefended else [math.nan] * len(records))
    means = [_mean(column) for column in columns]
    if not records:
        samples = np.empty((0, len(columns)))
    else:
        samples = resampled_means(np.array(columns).T, seed=seed)
    row: Row = {}
    for index, key in enumerate(FORGED_KEYS):
        row |= _with_interval(key, means[index], samples[:, index])
    f1, original, without = (np.mean(columns[k]) if records else math.nan for k in (0, -2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        share, shares = np.float64(f1) / np.float64(original), samples[:, 0] / samples[:, -2]
    row |= _with_interval("restored", _mean([float(share)]), shares)
    gain = _mean([float(f1 - without)])
    return row | _with_interval("gain", gain, samples[:, 0] - samples[:, -1])


def summary(
    records: Sequence[Scores],
    baseline: Sequence[Scores] | None = None,
    undefended: Sequence[Scores] | None = None,
    seed: int = 0,
) -> Row:
    """Average images, with 95 % intervals; None where there was no image of the kind.

    Args:
        records: of the images, see ``metrics.score`` and ``quality.image_quality``.
        baseline: of the same images unattacked and undefended, in the same order.
        undefended: of the same images attacked and undefended.
        seed: of the bootstrap.

    Returns:
        f1, mcc, f1_permuted, f1_best, iou, auc (forged images), area_pristine (pristine ones),
        ``restored``, the ratio of f1 to the baseline's, and ``gain``, f1 less the undefended one's:
        each with _low and _high, paired where two are compared; n, n_pristine; psnr and ssim of the
        defended against the input image (means over the images that were changed at all, for psnr),
        psnr_attacked and ssim_attacked of the attacked against the original; attack_score.
    """
    forged = _forged(records)
    before = _forged(baseline) if baseline is not None else [{} for _ in forged]
    without = _forged(undefended) if undefended is not None else None
    figures = _forged_figures(forged, before, without, seed)
    row = {key: figures[key] for key in figures if not key.startswith(("restored", "gain"))}
    row["n"] = len(forged)
    areas = [record["area_pristine"] for record in records if "area_pristine" in record]
    column = np.array(areas)[:, None]
    drawn = resampled_means(column, seed=seed)[:, 0] if areas else np.empty(0)
    row |= _with_interval("area_pristine", _mean(areas), drawn)
    row["n_pristine"] = len(areas)
    row |= {key: figures[key] for key in figures if key.startswith(("restored", "gain"))}
    for key in QUALITY_KEYS:
        row[key] = _mean(_column(records, key), 2 if key.startswith("psnr") else 4)
    return row


def make_rows(
    measured: Measurement, training: Mapping[str, Training] | None = None, seed: int = 0
) -> list[Row]:
    """Make one row a cell: set, attack, eps, defence, the figures of ``summary``, and what to make
    of them: ``mask_free`` and ``adaptive`` of the attack, and ``seen``, whether the training of
    this row's ANSM saw the attack (None for other defences, or if there is no record of it).

    Floors follow as rows whose defence is "all-marked" and "none-marked": whatever the attack and
    the defence, they are what they are.
    """
    undefended = {
        (cell.attack, cell.eps): cell.records for cell in measured.cells if cell.defence == "none"
    }
    rows: list[Row] = []
    for cell in measured.cells:
        entry = CATALOGUE[cell.attack]
        seen = (training or {}).get(cell.defence)
        rows.append(
            {"set": measured.name, "attack": cell.attack, "eps": cell.eps, "defence": cell.defence}
            | summary(
                cell.records,
                measured.baseline,
                undefended.get((cell.attack, cell.eps)),
                seed,
            )
            | {
                "mask_free": entry.mask_free,
                "adaptive": entry.adaptive,
                "seen": seen.saw(entry) if seen is not None else None,
            }
        )
    for floor, records in measured.floors.items():
        if records:
            about = {"set": measured.name, "attack": "none", "eps": 0.0, "defence": floor}
            figures = summary(records, measured.baseline, seed=seed)
            rows.append(about | figures | {"mask_free": True, "adaptive": False, "seen": None})
    return rows
