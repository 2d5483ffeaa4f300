"""F1 of an evaluation for the terminal: one table for each image set and budget."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from ansm_fast.evaluation.defences import is_ansm, title
from ansm_fast.evaluation.rows import Row
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

WIDTH = 100


def _cell(line: Line, defence: str, key: str, between: str) -> Text:
    row = line.cells.get(defence)
    if row is None:
        return Text(DASH)
    best = key in F1_TITLES and row[key] is not None and row[key] == line.best(key)
    text = Text(number(row[key]), style="bold" if best else "")
    text.append(mark(row), style="not bold")
    if is_ansm(defence) and between:
        text.append(f"{between}{limits(row, key)}".rstrip(), style="dim not bold")
    return text


def _interval_place(ansms: int) -> tuple[str, int]:
    """What stands between a figure and its interval, and the width of both: one interval fits
    beside its figure, two fit below theirs, more of them are left to the files."""
    if ansms > 2:
        return "", 0
    return (" ", 16) if ansms == 1 else ("\n", 9)


def _table(of_set: Sequence[Row], key: str, heading: str, eps: float) -> Table:
    table = Table(title=heading, title_justify="left", box=box.SIMPLE, pad_edge=False)
    table.padding = (0, 1, 0, 0)
    table.add_column("attack", no_wrap=True)
    columns = defences(of_set)
    between, width = _interval_place(sum(map(is_ansm, columns)))
    for defence in columns:
        widest = max(6, *map(len, title(defence).split()))
        if is_ansm(defence):
            widest = max(widest, width)
        table.add_column(title(defence), justify="right", width=widest)
    for line in lines(at_budget(of_set, eps)):
        table.add_row(line.title, *(_cell(line, one, key, between) for one in columns))
    for name, row in floors(of_set):
        table.add_row(name, *([number(row[key])] * len(columns)), style="dim")
    marks = "".join(line.title for line in lines(of_set)) + "".join(map(mark, of_set))
    table.caption, table.caption_justify = legend(marks) or None, "left"
    return table


def terminal_tables(rows: Sequence[Row], permuted: bool = False) -> list[Table]:
    """F1 of forged images (the marked area where a set holds only pristine ones), with the 95 %
    interval of the ANSM's. Each table repeats the unattacked images and the floors.

    Args:
        permuted: with tables of permuted F1.
    """
    found: list[Table] = []
    for name, of_set in sets(rows).items():
        forged = bool(of_set[0]["n"])
        count = of_set[0]["n" if forged else "n_pristine"]
        for key in f1_keys(permuted) if forged else ["area_pristine"]:
            what = F1_TITLES.get(key, "share marked as forged")
            for eps in budgets(of_set):
                heading = f"{what}, {count} images" + (f" of {name}" if name else "")
                if eps:
                    heading += f", attacks within {budget_name(eps)}"
                found.append(_table(of_set, key, heading, eps))
    return found
