"""Rows of an evaluation as Markdown, and into a document between two marks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ansm_fast.errors import InputError
from ansm_fast.evaluation.defences import is_ansm, title
from ansm_fast.evaluation.floors import FLOORS
from ansm_fast.evaluation.rows import Row
from ansm_fast.evaluation.tables.attacked import attacked_markdown
from ansm_fast.evaluation.tables.layout import (
    DASH,
    F1_TITLES,
    Line,
    at_budget,
    budget_name,
    budgets,
    defences,
    f1_keys,
    floors,
    legend,
    limits,
    lines,
    mark,
    number,
    sets,
)
from ansm_fast.images.atomic import write_text

CellText = Callable[[Line, Row], str]


def _grid(rows: Sequence[Row], columns: Sequence[str], text: CellText) -> str:
    """A table whose cells say what ``text`` makes of them; floors last, alike in all columns."""
    table = [
        "| attack | eps | " + " | ".join(title(defence) for defence in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for line in lines(rows):
        shown = [text(line, line.cells[one]) if one in line.cells else DASH for one in columns]
        table.append(f"| {line.title} | {line.budget} | " + " | ".join(shown) + " |")
    for name, row in floors(rows):
        shown = [text(Line(name, 0.0, {}), row)] * len(columns)
        table.append(f"| *{name}* | {DASH} | " + " | ".join(shown) + " |")
    return "\n".join(table)


def _f1(key: str) -> CellText:
    def text(line: Line, row: Row) -> str:
        value = number(row[key])
        if row[key] is not None and row[key] == line.best(key):
            value = f"**{value}**"
        spread = limits(row, key)
        return f"{value}{mark(row)} ({spread})" if spread else value + mark(row)

    return text


_OTHERS = {"mcc": "MCC", "f1_best": "best-threshold F1", "iou": "IoU", "auc": "AUC"}


def _others(line: Line, row: Row) -> str:
    return " / ".join(number(row[key]) for key in _OTHERS if key in row)


def _restored(line: Line, row: Row) -> str:
    spread = limits(row, "restored")
    return f"{number(row['restored'], 2)}{mark(row)}" + (f" ({spread})" if spread else "")


def _pristine(line: Line, row: Row) -> str:
    return number(row["area_pristine"])


def _quality(line: Line, row: Row) -> str:
    return f"{number(row['psnr'], 1)} / {number(row['ssim'])}"


def _section(rows: Sequence[Row], permuted: bool) -> list[str]:
    """The tables of one image set."""
    columns, first = defences(rows), rows[0]
    ansms = [one for one in columns if is_ansm(one)]
    parts: list[str] = []
    if first["n"]:
        spread = " (95 % interval)" if limits(first, "f1") else ""
        names = " / ".join(name for key, name in _OTHERS.items() if key in first)
        several = budgets(rows)
        for key in f1_keys(permuted):
            heading = f"{F1_TITLES[key]}{spread}, means over {first['n']} forged images"
            for eps in several:
                within = f", attacks within {budget_name(eps)}" if len(several) > 1 else ""
                parts += [f"{heading}{within}:", _grid(at_budget(rows, eps), columns, _f1(key))]
        if ansms and first.get("restored") is not None:
            shown = [row for row in rows if row["defence"] in {*ansms, *FLOORS}]
            parts += [
                "Restored: F1 with the defence as a share of the unattacked, undefended F1 "
                "(95 % interval, paired):",
                _grid(
                    [row for row in rows if row["defence"] in {*ansms, *FLOORS}], ansms, _restored
                ),
            ]
        parts += [f"{names}:", _grid(rows, columns, _others)]
    if first["n_pristine"]:
        parts += [
            f"Mean share of the image marked as forged, over {first['n_pristine']} pristine "
            "images:",
            _grid(rows, columns, _pristine),
        ]
    changed = [one for one in columns if one != "none"]
    if changed and "psnr" in first:
        shown = [row for row in rows if row["defence"] in changed]
        parts += [
            "What the defence changes: PSNR in dB / SSIM of the defended against the input image:",
            _grid(shown, changed, _quality),
        ]
    return parts


def markdown(
    rows: Sequence[Row], command: str, attacked: Sequence[Row] = (), permuted: bool = False
) -> str:
    """Tables of F1 (one for each budget), what was restored, other figures of forged images, the
    predicted area of pristine ones, image quality, and "attacked?": of each image set apart.

    Args:
        rows: of ``make_rows``.
        command: that made them.
        attacked: rows of ``attacked_rows``.
        permuted: with tables of permuted F1.
    """
    by_set, attacked_by_set = sets(rows), sets(attacked)
    parts: list[str] = []
    for name, found in by_set.items():
        parts += [f"**{name}**"] * (len(by_set) > 1) + _section(found, permuted)
        parts += attacked_markdown(attacked_by_set.get(name, []))
    meaning = legend("\n".join(parts))
    if meaning:
        parts.append(meaning[0].upper() + meaning[1:] + ".")
    parts.append(f"Made by `{command}`.")
    return "\n\n".join(parts) + "\n"


def _place(path: Path, text: str, name: str) -> str:
    """The document at ``path`` with ``text`` between its marks; a new one has nothing else."""
    begin, end = f"<!-- table:{name} -->", f"<!-- /table:{name} -->"
    whole = path.read_text(encoding="utf-8") if path.exists() else ""
    if not whole.strip():
        return f"{begin}\n{text}{end}\n"
    head, mark, rest = whole.partition(begin)
    _, closing, tail = rest.partition(end)
    if not mark or not closing:
        raise InputError(
            f"{path} exists without the marks {begin} and {end}; add them or give another file"
        )
    return f"{head}{begin}\n{text}{end}{tail}"


def check_markdown(path: str | Path, name: str = "evaluation") -> None:
    """Raise InputError if ``write_markdown`` would find no place in the file: before the work."""
    path = Path(path)
    try:
        _place(path, "", name)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no readable text file; give another file") from error


def write_markdown(path: str | Path, text: str, name: str = "evaluation") -> None:
    """Write ``text`` between ``<!-- table:NAME -->`` and ``<!-- /table:NAME -->`` of the file.

    A file that doesn't exist, or is empty, becomes the text between the marks: the next time it
    finds its place.

    Raises:
        InputError: the file exists without these marks, or cannot be written.
    """
    path = Path(path)
    try:
        write_text(os.path.realpath(path), _place(path, text, name))  # a link stays one
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror}); give another file") from error
