from __future__ import annotations

import csv
import io
import re

import pytest
from rich.console import Console

from ansm_fast.errors import InputError
from ansm_fast.evaluation import Row, markdown, write_markdown
from ansm_fast.evaluation.tables import csv_text, terminal_tables

COLUMNS = ("none", "jpeg", "median", "bit-depth", "gaussian", "tv", "ansm")


def make_row(attack: str, eps: float, defence: str, f1: float, **more: object) -> Row:
    row: Row = {"set": "held & out", "attack": attack, "eps": eps, "defence": defence}
    for key in ("f1", "f1_best", "iou", "auc", "restored", "area_pristine"):
        row |= {key: f1, f1_key(key, "low"): f1 - 0.05, f1_key(key, "high"): f1 + 0.05}
    row |= {"n": 40, "n_pristine": 10, "psnr": 41.237, "ssim": 0.99}
    row |= {"mask_free": attack in ("none", "hide"), "adaptive": False, "seen": None}
    return row | more


def f1_key(key: str, end: str) -> str:
    return f"{key}_{end}"


@pytest.fixture
def rows() -> list[Row]:
    found = []
    for attack, budgets in (("none", (0.0,)), ("pgd", (2, 4)), ("hide", (2, 4))):
        for eps in budgets:
            for index, defence in enumerate(COLUMNS):
                seen = {"seen": attack == "pgd"} if defence == "ansm" and eps else {}
                found.append(make_row(attack, eps / 255, defence, 0.1 + index / 10, **seen))
    return found


def test_csv_holds_every_field_of_every_row(rows) -> None:
    found = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert len(found) == len(rows) and set(found[0]) == set(rows[0])
    assert [float(one["f1"]) for one in found] == [row["f1"] for row in rows]
    assert found[0]["seen"] == "" and found[0]["set"] == "held & out"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_markdown_is_a_grid_with_the_best_in_bold_and_marks_explained(rows) -> None:
    text = markdown(rows, "ansm-fast evaluate x")
    tables = re.findall(r"(?:^\|.*\n?)+", text, re.M)
    assert len(tables) == 6
    first = [cells(line) for line in tables[0].splitlines()]
    second = [cells(line) for line in tables[1].splitlines()]
    assert {len(line) for line in first} == {len(COLUMNS) + 2}
    assert first[0][2:] == ["no defence", "JPEG-75", "median 3×3", "4 bits", "Gaussian blur",
                            "total variation", "ANSM"]  # fmt: skip
    for table, eps in ((first, "2/255"), (second, "4/255")):
        assert f"forged images, attacks within {eps}:\n\n| attack" in text
        assert [line[:2] for line in table[2:]] == [
            ["no attack", "–"], ["PGD", eps], ["PGD, hide ‡", eps],
        ]  # fmt: skip
    # The other tables hold every budget.
    assert {cells(line)[1] for line in tables[2].splitlines()[2:]} == {"–", "2/255", "4/255"}
    assert [line[-1] for line in first[3:]] == [
        "**0.700** (0.65–0.75)",
        "**0.700**† (0.65–0.75)",
    ]
    assert text.count("† no such attack") == 1 and text.count("‡ made without") == 1
    assert "41.2 / 0.990" in text and text.endswith("Made by `ansm-fast evaluate x`.\n")


def with_floors(rows: list[Row]) -> list[Row]:
    more = {"mcc": 0.25, "f1_permuted": 0.42}
    floors = [make_row("none", 0.0, "all-marked", 0.24), make_row("none", 0.0, "none-marked", 0.0)]
    return [row | more for row in [*rows, *floors]]


def test_every_table_of_the_localizers_masks_ends_with_the_floors(rows) -> None:
    text = markdown(with_floors(rows), "c")
    tables = re.findall(r"(?:^\|.*\n?)+", text, re.M)
    for table in tables[:-1]:
        lines = [cells(line) for line in table.splitlines()]
        assert [line[:2] for line in lines[-2:]] == [
            ["*all marked forged*", "–"], ["*nothing marked*", "–"],
        ]  # fmt: skip
        assert all(len(line) == len(lines[0]) for line in lines)
        assert len(set(lines[-2][2:])) == 1 and "**" not in lines[-2][2]
    assert "all marked" not in tables[-1]  # what a defence changes: a floor changes nothing
    assert "| *all marked forged* | – | 0.240 (0.19–0.29) |" in tables[0]
    assert "| *all marked forged* | – | 0.24 (0.19–0.29) |\n" in tables[2]  # restored
    assert "MCC / best-threshold F1 / IoU / AUC:" in text and "0.250 / 0.240 / 0.240" in text
    console = Console(width=100, record=True, file=io.StringIO())
    for table in terminal_tables(with_floors(rows)):
        console.print(table)
    shown = [line.split() for line in console.export_text().splitlines() if "marked" in line]
    assert len(shown) == 4 and shown[0] == ["all", "marked", "forged", *["0.240"] * 7]


def test_permuted_f1_has_tables_of_its_own_if_asked(rows) -> None:
    plain, permuted = (markdown(with_floors(rows), "c", permuted=p) for p in (False, True))
    title = "Permuted F1 at 0.5, of the better of the mask and its inverse"
    assert title not in plain and permuted.count(title) == 2 and permuted.count("0.420") == 2 * 35
    assert "F1 at 0.5 (95 % interval), means" in permuted
    assert len(terminal_tables(with_floors(rows), permuted=True)) == 4


def test_sets_have_tables_of_their_own(rows) -> None:
    both = rows + [row | {"set": "real", "n": 7} for row in rows]
    text = markdown(both, "c")
    assert text.count("**held & out**") == text.count("**real**") == 1
    assert "means over 40 forged" in text and "means over 7 forged" in text
    assert "**held" not in markdown(rows, "c")
    assert len(terminal_tables(both)) == 4


def test_rows_of_earlier_versions_can_still_be_shown() -> None:
    row = {"attack": "pgd", "eps": 4 / 255, "defence": "ansm", "f1": 0.5, "iou": 0.4, "auc": 0.9,
           "n": 3, "area_pristine": None, "n_pristine": 0}  # fmt: skip
    assert "| PGD | 4/255 | **0.500** |" in markdown([row], "c")
    assert "0.400 / 0.900" in markdown([row], "c")


@pytest.mark.parametrize("ansms", [("ansm",), ("ansm:base", "ansm:robust")])
def test_the_terminal_shows_a_table_a_budget_within_100_columns(rows, ansms) -> None:
    shown = [row for row in rows if row["defence"] != "ansm"]
    shown += [row | {"defence": name} for name in ansms for row in rows
              if row["defence"] == "ansm"]  # fmt: skip
    console = Console(width=100, record=True, file=io.StringIO())
    tables = terminal_tables(shown)
    for table in tables:
        console.print(table)
    text = console.export_text()
    assert len(tables) == 2 and "within 2/255" in text and "within 4/255" in text
    assert max(map(len, text.splitlines())) <= 100 and "…" not in text
    assert text.count("0.65–0.75") == 6 * len(ansms) and "0.700†" in text
    assert "‡ made without" in text


def test_a_set_of_pristine_images_shows_the_marked_area(rows) -> None:
    nothing = {"f1": None, "n": 0}
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(terminal_tables([row | nothing for row in rows])[0])
    assert "share marked as forged, 10 images" in console.export_text()
    assert "pristine images" in markdown([row | nothing for row in rows], "c")


def test_markdown_goes_between_its_marks(tmp_path) -> None:
    path = tmp_path / "R.md"
    path.write_text("before\n<!-- table:evaluation -->\nold\n<!-- /table:evaluation -->\nafter\n")
    write_markdown(path, "new\n")
    assert path.read_text() == (
        "before\n<!-- table:evaluation -->\nnew\n<!-- /table:evaluation -->\nafter\n"
    )
    (tmp_path / "other.md").write_text("no marks")
    with pytest.raises(InputError, match="without the marks"):
        write_markdown(tmp_path / "other.md", "new")
    assert (tmp_path / "other.md").read_text() == "no marks"
