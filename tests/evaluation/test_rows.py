from __future__ import annotations

from pathlib import Path

import pytest

from ansm_fast.evaluation import Cell, Measurement, make_rows, pool, summary
from ansm_fast.evaluation.provenance import Training

PGD = frozenset({("pgd", "untargeted", "linf")})


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
