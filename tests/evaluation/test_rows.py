from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ansm_fast.evaluation import FLOORS, Cell, Measurement, make_rows, pool, summary
from ansm_fast.evaluation.floors import floor_scores
from ansm_fast.evaluation.provenance import Training
from ansm_fast.evaluation.rows import worst_cells

PGD = frozenset({("pgd", "untargeted", "linf")})


def floors(*masks: list[int]) -> dict[str, list[dict[str, float]]]:
    found = [floor_scores(np.array([mask], bool)) for mask in masks]
    return {name: [one[name] for one in found] for name in FLOORS}


def test_floors_are_what_masks_reach_that_know_nothing() -> None:
    """F1 of a mask that marks everything is 2 s / (1 + s) where a share s is forged."""
    measured = Measurement("s", [cell("none", "none", 0.8, 0.8)], forged(0.8, 0.8))
    measured.floors |= floors([1, 0, 0, 0], [1, 1, 1, 0])
    measured.cells[0].records.append({"area_pristine": 0.1})
    measured.baseline.append({"area_pristine": 0.1})
    for name, one in floors([0, 0, 0, 0]).items():
        measured.floors[name] += one
    row, everything, nothing = make_rows(measured)
    assert [one["defence"] for one in (row, everything, nothing)] == ["none", *FLOORS]
    f1 = (2 * 0.25 / 1.25 + 2 * 0.75 / 1.75) / 2
    assert everything["f1"] == everything["f1_best"] == pytest.approx(f1, abs=1e-4)
    assert everything["iou"] == 0.5 and everything["auc"] == 0.5 and everything["mcc"] == 0
    assert everything["restored"] == pytest.approx(f1 / 0.8, abs=1e-4)
    assert everything["area_pristine"] == 1 and everything["n"] == nothing["n"] == 2
    assert (nothing["f1"], nothing["iou"], nothing["mcc"], nothing["area_pristine"]) == (0,) * 4
    assert nothing["f1_permuted"] == everything["f1"]  # its inverse marks everything
    together = pool([measured, measured])
    assert [one["n"] for one in make_rows(together)] == [4, 4, 4]


def test_the_worst_is_the_lowest_f1_and_the_largest_pristine_area() -> None:
    parts = []
    for name, f1, area in (("a", (0.3, 0.9), 0.2), ("b", (0.4, 0.1), 0.7), ("c", (0.5, 0.5), 0.1)):
        records = [*forged(*f1), {"area_pristine": area}]
        parts.append(Cell(name, 0.1, "ansm", records, [Path(name + i) for i in "123"]))
    lacking = Cell("a", 0.1, "jpeg", forged(0.5), [Path("x")])
    (worst,) = worst_cells([*parts, lacking], "worst", ("a", "b", "c"))
    assert (worst.attack, worst.eps, worst.defence) == ("worst", 0.1, "ansm")
    assert [one.get("f1") for one in worst.records] == [0.3, 0.1, None]
    assert worst.records[2]["area_pristine"] == 0.7
    assert worst.images == [Path("a1"), Path("b2"), Path("b3")]
    assert worst_cells(parts, "worst", ()) == []


def forged(*values: float) -> list[dict[str, float]]:
    return [{"f1": v, "f1_best": v, "iou": v / 2, "auc": v, "psnr": 40.0} for v in values]


def test_means_over_images_and_area_of_pristine_ones() -> None:
    records = [*forged(1.0, 0.0), {"area_pristine": 0.5, "psnr": float("inf")}]
    row = summary(records)
    assert row["f1"] == 0.5 and row["iou"] == 0.25 and row["n"] == 2
    assert (row["f1_low"], row["f1_high"]) == (0.0, 1.0)
    assert row["area_pristine"] == 0.5 and row["n_pristine"] == 1
    assert row["psnr"] == 40.0  # an image that nothing changed has none
    assert row["restored"] is None and row["gain"] is None


def test_nothing_gives_none_and_not_nan() -> None:
    row = summary([])
    assert row.pop("n") == row.pop("n_pristine") == 0
    assert set(row.values()) == {None}
    assert summary([{"area_pristine": 0.1}])["f1_low"] is None


def test_restored_and_gain_are_paired() -> None:
    originals, attacked = forged(0.4, 0.8, 0.6, 1.0), forged(0.0, 0.1, 0.0, 0.1)
    row = summary(forged(0.2, 0.4, 0.3, 0.5), originals, attacked)
    assert row["restored"] == row["restored_low"] == row["restored_high"] == 0.5
    assert row["gain"] == pytest.approx(0.35 - 0.05)
    assert row["gain_low"] < row["gain"] < row["gain_high"]
    assert summary(forged(0.2), forged(0.0))["restored"] is None


def cell(attack: str, defence: str, *values: float) -> Cell:
    return Cell(attack, 0.0 if attack == "none" else 0.1, defence, forged(*values), [Path("a")])


def test_rows_say_what_to_make_of_them() -> None:
    cells = [
        cell(attack, defence, 0.5, 0.7)
        for attack in ("none", "pgd", "hide", "adaptive")
        for defence in ("none", "ansm:a", "ansm:b")
    ]
    rows = make_rows(
        Measurement("s", cells, forged(0.5, 0.7)), {"ansm:a": Training(PGD), "ansm:b": Training()}
    )
    found = {(row["attack"], row["defence"]): row for row in rows}
    assert [key for key, row in found.items() if row["seen"]] == [("pgd", "ansm:a")]
    assert found["hide", "ansm:a"]["seen"] is False and found["adaptive", "ansm:a"]["seen"] is False
    assert {found[key]["seen"] for key in found if key[1] != "ansm:a"} == {None}
    assert {attack for attack, _ in found if found[attack, "none"]["mask_free"]} == {"none", "hide"}
    assert {attack for attack, _ in found if found[attack, "none"]["adaptive"]} == {"adaptive"}
    assert all(row["set"] == "s" for row in rows)


def test_pooled_images_count_each_once_and_leave_the_sets_alone() -> None:
    one = Measurement("a", [cell("pgd", "none", 0.0, 0.0, 0.0)], forged(1.0, 1.0, 1.0))
    other = Measurement("b", [cell("pgd", "none", 1.0)], forged(0.2))
    together = pool([one, other])
    (row,) = make_rows(together)
    assert row["set"] == "pooled" and row["n"] == 4 and row["f1"] == 0.25
    assert row["restored"] == pytest.approx(0.25 / 0.8, abs=1e-4)
    assert len(one.cells[0].records) == 3 and len(other.cells[0].records) == 1
