"""What all tables have in common: their grid, names and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansm_fast.evaluation.catalogue import CATALOGUE
from ansm_fast.evaluation.floors import FLOORS
from ansm_fast.evaluation.rows import Row

UNSEEN, MASK_FREE = "†", "‡"
DASH = "–"
LEGEND = {
    UNSEEN: "no such attack in this ANSM's training",
    MASK_FREE: "made without the forgery's mask",
}


@dataclass(frozen=True)
class Line:
    """One attack at one budget: the row of each defence that has one."""

    attack: str
    eps: float
    cells: Mapping[str, Row]

    @property
    def title(self) -> str:
        mask_free = any(row.get("mask_free") for row in self.cells.values())
        mark = f" {MASK_FREE}" if mask_free and self.attack != "none" else ""
        return CATALOGUE[self.attack].title + mark

    @property
    def budget(self) -> str:
        return DASH if self.attack == "none" else budget_name(self.eps)

    def best(self, key: str) -> float | None:
        values = [row[key] for row in self.cells.values() if row.get(key) is not None]
        return max(values) if values else None


def sets(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group rows by image set, in order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.get("set", ""), []).append(row)
    return found


def defences(rows: Sequence[Row]) -> list[str]:
    """Names of the defences in order, without floors."""
    return list(dict.fromkeys(row["defence"] for row in rows if row["defence"] not in FLOORS))


def floors(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """Title and row of each floor of one set; results of earlier versions have none."""
    return [(FLOORS[row["defence"]], row) for row in rows if row["defence"] in FLOORS]


def lines(rows: Sequence[Row]) -> list[Line]:
    """Group the rows of one set into lines, in order, without floors."""
    found: dict[tuple[str, float], dict[str, Row]] = {}
    for row in rows:
        if row["defence"] in FLOORS:
            continue
        found.setdefault((row["attack"], row["eps"]), {})[row["defence"]] = row
    return [Line(attack, eps, cells) for (attack, eps), cells in found.items()]


def budgets(rows: Sequence[Row]) -> list[float]:
    """Budgets of the attacks; [0] if nothing was attacked."""
    found = sorted({row["eps"] for row in rows if row["attack"] != "none"})
    return found or [0.0]


def budget_name(eps: float) -> str:
    return f"{round(eps * 255, 3):g}/255"


def at_budget(rows: Sequence[Row], eps: float) -> list[Row]:
    """Return the attacks within ``eps``, and the unattacked images."""
    return [row for row in rows if row["attack"] == "none" or row["eps"] == eps]


def number(value: float | None, digits: int = 3) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def limits(row: Row, key: str, digits: int = 2) -> str:
    """ "0.74–0.80", empty if the row has no interval."""
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    return "" if low is None or high is None else f"{low:.{digits}f}{DASH}{high:.{digits}f}"


# Figures of F1 in tables: key of a row -> what its table is called.
F1_TITLES = {
    "f1": "F1 at 0.5",
    "f1_permuted": "Permuted F1 at 0.5, of the better of the mask and its inverse",
}


def f1_keys(permuted: bool) -> list[str]:
    """Figures of F1 that have a table each."""
    return list(F1_TITLES)[: 1 + permuted]


def mark(row: Row) -> str:
    return UNSEEN if row.get("seen") is False else ""


def legend(text: str) -> str:
    """Return what the marks that occur in ``text`` mean."""
    return "; ".join(f"{sign} {meaning}" for sign, meaning in LEGEND.items() if sign in text)
