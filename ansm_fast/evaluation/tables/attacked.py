"""Rows of "attacked?" as a Markdown table, and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from ansm_fast.evaluation.catalogue import CATALOGUE
from ansm_fast.evaluation.defences import title
from ansm_fast.evaluation.harmless import HARMLESS
from ansm_fast.evaluation.rows import Row
from ansm_fast.evaluation.tables.layout import DASH, budget_name, legend, limits, mark, number, sets

_HEAD = (
    "image",
    "eps",
    "mean score",
    "AUC",
    "AUC, harmless changes too",
    "called attacked at 1 % false alarms",
    "called attacked",
)


def _cells(row: Row) -> list[str]:
    name, attacked = row["image"], row["kind"] == "attack"
    called = HARMLESS[name][0] if row["kind"] == "harmless" else CATALOGUE[name].title
    spread = limits(row, "auc")
    return [
        called + mark(row),
        budget_name(row["eps"]) if attacked else DASH,
        number(row["score"]),
        DASH if name == "none" else number(row["auc"]) + (f" ({spread})" if spread else ""),
        number(row["auc_harmless"]) if attacked else DASH,
        f"{100 * row['called_1_percent']:.1f} %",
        f"{100 * row['called']:.1f} %",
    ]


def _heading(row: Row) -> str:
    return (
        f"Was the image attacked? Attack score of {title(row['defence'])} over {row['n']} images; "
        f"at most 1 % of the unattacked ones lie at {row['threshold_1_percent']:.3f} or above, its "
        f"own threshold is {row['threshold']:.3f}"
    )


def _by_defence(rows: Sequence[Row]) -> list[list[Row]]:
    return [
        [row for row in rows if row["defence"] == defence]
        for defence in dict.fromkeys(row["defence"] for row in rows)
    ]


def attacked_markdown(rows: Sequence[Row]) -> list[str]:
    """A heading and a table for every ANSM of one image set."""
    parts: list[str] = []
    for found in _by_defence(rows):
        table = ["| " + " | ".join(_HEAD) + " |", "|---|---|" + "---|" * (len(_HEAD) - 2)]
        table += ["| " + " | ".join(_cells(row)) + " |" for row in found]
        parts += [f"{_heading(found[0])}:", "\n".join(table)]
    return parts


def attacked_tables(rows: Sequence[Row]) -> list[Table]:
    """One table for each image set and ANSM."""
    tables: list[Table] = []
    for name, of_set in sets(rows).items():
        for found in _by_defence(of_set):
            heading = _heading(found[0]) + (f"; {name}" if name else "")
            table = Table(title=heading, title_justify="left", box=box.SIMPLE, pad_edge=False)
            table.padding = (0, 1, 0, 0)
            for index, head in enumerate(_HEAD):
                words = max(map(len, head.split()))
                table.add_column(
                    head,
                    justify="right" if index else "left",
                    no_wrap=not index,
                    width=None if index in (0, 1) else max(words, 17 if head == "AUC" else 8),
                )
            for row in found:
                table.add_row(*_cells(row))
            table.caption = legend("".join(map(mark, found))) or None
            table.caption_justify = "left"
            tables.append(table)
    return tables
