"""Rows of an evaluation as Markdown, and into a document between two marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ansm_fast.data.atomic import write_text
from ansm_fast.errors import InputError
from ansm_fast.evaluation.defences import TITLES
from ansm_fast.evaluation.protocol import Row

ATTACK_TITLES = {
    "none": "none",
    "pgd": "PGD",
    "fgsm": "FGSM",
    "bim": "BIM",
    "mifgsm": "MI-FGSM",
    "hide": "PGD, hide",
    "wrong-mask": "PGD, wrong mask",
    "noise": "random noise",
}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _cell(row: Row | None, keys: Sequence[str], best: float | None) -> str:
    if row is None or row[keys[0]] is None:
        return "–"
    first = _number(row[keys[0]])
    if row[keys[0]] == best:
        first = f"**{first}**"
    return " / ".join([first, *(_number(row[key]) for key in keys[1:])])


def _grid(rows: Sequence[Row], keys: Sequence[str], highlight: bool) -> str:
    defences = list(dict.fromkeys(row["defence"] for row in rows))
    lines = [
        "| attack | eps | " + " | ".join(TITLES[defence] for defence in defences) + " |",
        "|---|---|" + "---|" * len(defences),
    ]
    for attack, eps in dict.fromkeys((row["attack"], row["eps"]) for row in rows):
        cells = {r["defence"]: r for r in rows if (r["attack"], r["eps"]) == (attack, eps)}
        values = [r[keys[0]] for r in cells.values() if r[keys[0]] is not None]
        best = max(values) if highlight and values else None
        budget = "–" if attack == "none" else f"{round(eps * 255, 3):g}/255"
        shown = [_cell(cells.get(defence), keys, best) for defence in defences]
        lines.append(f"| {ATTACK_TITLES[attack]} | {budget} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def markdown(rows: Sequence[Row], command: str) -> str:
    """F1 / IoU / AUC of forged images, and the predicted area of pristine ones if there are any."""
    forged, pristine = rows[0]["n"], rows[0]["n_pristine"]
    parts = []
    if forged:
        parts += [
            f"F1 / IoU / AUC, means over {forged} forged images:",
            _grid(rows, ("f1", "iou", "auc"), highlight=True),
        ]
    if pristine:
        parts += [
            f"Mean share of the image marked as forged, over {pristine} pristine images:",
            _grid(rows, ("area_pristine",), highlight=False),
        ]
    parts.append(f"Made by `{command}`.")
    return "\n\n".join(parts) + "\n"


def _place(path: Path, text: str, name: str) -> str:
    """The document at ``path`` with ``text`` between its marks; ``text`` if there is none."""
    if not path.exists():
        return text
    begin, end = f"<!-- table:{name} -->", f"<!-- /table:{name} -->"
    head, mark, rest = path.read_text(encoding="utf-8").partition(begin)
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

    A file that doesn't exist becomes the text alone.

    Raises:
        InputError: the file exists without these marks, or cannot be written.
    """
    path = Path(path)
    try:
        write_text(path, _place(path, text, name))
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror}); give another file") from error
