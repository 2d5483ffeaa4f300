"""From rows of cases, launches and kernels to one row for each op and backend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]

COLUMNS = (
    "numerics",
    "schedules",
    "sanitizers",
    "races",
    "bytes / minimum",
    "sectors / ideal",
    "registers",
    "spills",
)
INTERPRETED = ("numerics", "schedules", "sanitizers", "races", "bytes / minimum")  # of Triton
MOST_BYTES = 1.02
MOST_SECTORS = 1.05


EXPLAINED = """

Made by `python -m tools.prove --update`, without a GPU;
[what the columns hold](../../docs/kernels.md#what-is-proved).
"""


class Cells(dict[str, str]):
    """A row's cells, and what is wrong with it."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    def put(self, column: str, text: str, wrong: Iterable[str] = ()) -> None:
        self[column] = text
        self.wrong += [f"{column}: {line}" for line in wrong]


def _of(rows: list[Row], op: str) -> list[Row]:
    return [row for row in rows if row["op"] == op]


def _largest(rows: list[Row], key: str) -> float:
    return max((row[key] for row in rows if row.get(key) is not None), default=float("nan"))


def _schedules(rows: list[Row]) -> str:
    """How many orders gave the same bits, or "differ"."""
    least = min((row["schedules"] for row in rows if row.get("schedules") != 1), default=0)
    return f"{least}, same bits" if least else "differ"


def _registers(kernels: list[Row]) -> str:
    """Over all instances and architectures."""
    numbers = [number for kernel in kernels for number in kernel["registers"]]
    return f"{min(numbers)}-{max(numbers)}" if numbers else ""


def cuda_cells(
    op: str, plain: list[Row], address: list[Row], seen: list[Row], kernels: list[Row]
) -> Cells:
    """``kernels``: the instances that the op launches, by the compile report."""
    cells = Cells()
    mine = _of(plain, op)
    bad = [r for r in mine if r["error"] or not r["numerics"]]
    told = [f"{r['case']}: {r['error'] or r.get('message') or 'beyond its bound'}" for r in bad]
    cells.put("numerics", f"{len(mine) - len(bad)} of {len(mine)}", told)
    ordered = [r for r in mine if not r.get("check") and not r["error"]]
    other = [r["case"] for r in ordered if not r["schedules"]]
    cells.put("schedules", _schedules(ordered), other)

    mine = _of(address, op)
    bad = [r for r in mine if r["error"]]
    cells.put(
        "sanitizers",
        f"{len(mine) - len(bad)} of {len(mine)}",
        [f"{r['case']}: {r['error']}" for r in bad] or ([] if mine else ["did not run"]),
    )

    mine = _of(seen, op)
    findings = [
        f"{r['case']}: {f}" for r in mine for f in [r["error"], *r.get("findings", [])] if f
    ]
    launches = sum(r.get("launches", 0) for r in mine)
    cells.put("races", f"{len(findings)} in {launches} launches", findings)
    moved = [r for r in mine if r.get("bytes_over_minimum") is not None]
    most = _largest(moved, "bytes_over_minimum")
    far = [
        f"{r['case']}: {r['bytes_over_minimum']:.4f}"
        for r in moved
        if not r["bytes_over_minimum"] <= MOST_BYTES
    ]
    cells.put("bytes / minimum", f"{most:.3f}", far or ([] if moved else ["not counted"]))
    aligned = [r for r in moved if r["aligned"]]
    far = [
        f"{r['case']}: {r['sectors_over_ideal']:.4f}"
        for r in aligned
        if not r["sectors_over_ideal"] <= MOST_SECTORS
    ]
    far += [f"{r['case']}: more than one extra" for r in moved if r["beyond_one_extra"]]
    cells.put("sectors / ideal", f"{_largest(aligned, 'sectors_over_ideal'):.3f}", far)

    spilling = [f"{k['kernel']}: {k['memory']}" for k in kernels if k["memory"]]
    cells.put("registers", _registers(kernels), [] if kernels else ["no kernel compiled"])
    cells.put("spills", str(len(spilling)), spilling)
    return cells


def triton_cells(
    op: str, interpreted: list[Row] | None, compiled: list[Row], compiled_as: str
) -> Cells:
    """In the interpreter, bounds of every lane stand in the sanitizers' column, and the widths of
    accesses in machine code in that of the sectors: Triton decides what a warp touches.

    ``interpreted``: None where that is left to the tests.
    ``compiled_as``: the operator of the compiled kernels, which this one launches."""
    cells = Cells()
    if interpreted is None:
        for column in INTERPRETED:
            cells.put(column, "by tests")
    else:
        _put_interpreted(cells, _of(interpreted, op))

    kernels = _of(compiled, compiled_as)
    aligned = [k for k in kernels if k["wide"] is not None]
    narrow = [
        f"sm_{k['architecture']} {k['kernel']} {k['dtype']}" for k in aligned if not k["wide"]
    ]
    cells.put(
        "sectors / ideal", f"128 bits in {len(aligned) - len(narrow)} of {len(aligned)}", narrow
    )
    spilling = [
        f"sm_{k['architecture']} {k['kernel']} {k['dtype']}"
        for k in kernels
        if k["spills"] or k["stack"] or k["local"]
    ]
    each = [{"registers": [k["registers"]]} for k in kernels]
    cells.put("registers", _registers(each), [] if kernels else ["no kernel compiled"])
    cells.put("spills", str(len(spilling)), spilling)
    return cells


def _put_interpreted(cells: Cells, mine: list[Row]) -> None:
    ran = [r for r in mine if not r["bounds"]]
    bad = [r for r in ran if not r["numerics"]]
    cells.put(
        "numerics",
        f"{len(mine) - len(bad)} of {len(mine)}",
        [f"{r['dtype']} {r['layout']} {r['case']}: error {r['error']:.2e}" for r in bad]
        or ([] if mine else ["did not run"]),
    )
    cells.put("schedules", _schedules(ran), [r["case"] for r in ran if not r["schedules"]])
    outside = [f"{r['case']}: {r['bounds']}" for r in mine if r["bounds"]]
    cells.put("sanitizers", f"bounds {len(ran)} of {len(mine)}", outside)
    races = [race for r in ran for race in r["races"]]
    launches = sum(len(r["launches"]) for r in ran)
    cells.put("races", f"{len(races)} in {launches} launches", races)
    far = [
        f"{r['dtype']} {r['layout']} {r['case']}: {r['sectors_over_minimum']:.4f}"
        for r in ran
        if r["sectors_over_minimum"] is not None and not r["sectors_over_minimum"] <= MOST_BYTES
    ]
    cells.put("bytes / minimum", f"{_largest(ran, 'sectors_over_minimum'):.3f}", far)


def pages(table: dict[tuple[str, str], Cells], operators: dict[str, str]) -> dict[str, str]:
    """What kernels/<op>/proof.md shows of each op."""
    found: dict[str, list[str]] = {}
    for (name, backend), cells in table.items():
        lines = found.setdefault(operators[name], [])
        lines.append(f"| {name} | {backend} | {' | '.join(cells[c] for c in COLUMNS)} |")
    head = f"| operator | backend | {' | '.join(COLUMNS)} |\n" + "|---" * (len(COLUMNS) + 2) + "|\n"
    return {op: head + "\n".join(lines) + EXPLAINED for op, lines in found.items()}
