"""README and docs/ show what the result files say, and are written by one command."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ansm_fast.evaluation import FLOORS
from tools import tables
from tools.tables import TABLES, Table


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.page}, {table.name}")
def test_pages_show_the_committed_results(table: Table) -> None:
    if table.name == "gpu_results" and not (tables.ROOT / ".git").exists():
        pytest.skip("no checkout: which files are committed is unknown")
    text = (tables.ROOT / table.page).read_text(encoding="utf-8")
    assert f"<!-- table:{table.name} -->\n{table.text()}<!-- /table:{table.name} -->" in text, (
        "write the tables by `python -m tools.tables`"
    )


def test_the_tables_of_the_readme_are_small() -> None:
    evaluation = tables.short_evaluation()
    for text, rows, columns in (
        (evaluation, 9 if "*nothing marked*" in evaluation else 7, 5),
        (tables.short_benchmark(), 5, 5),
        (tables.short_gpu(), 5, 4),
    ):
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert len(lines) == rows + 2 and all(line.count(" | ") == columns - 1 for line in lines)


def test_results_with_floors_and_a_worst_of_three(tmp_path, monkeypatch) -> None:
    """As `ansm-fast evaluate` writes them now; the committed ones may be of an earlier version."""
    path = tables.RESULTS / "evaluation" / "robust.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    known = [row for row in document["rows"] if row["defence"] not in FLOORS]
    worst = [row | {"attack": "adaptive-worst"} for row in known if row["attack"] == "adaptive"]
    floors = [known[0] | {"defence": one, "f1": 0.25, "area_pristine": 1.0} for one in FLOORS]
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "robust.json").write_text(
        json.dumps(document | {"rows": [*known, *worst, *floors]})
    )
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    lines = tables.short_evaluation().splitlines()
    assert len(lines) == 2 + 7 + 2 and "worst of three" in lines[-3]
    assert lines[-2] == "| *all marked forged* | 0.250 | 0.250 | 0.250 | 100 % |"
    assert "| *nothing marked* | – |" in tables.full_evaluation("robust")


def test_only_what_stands_between_the_marks_is_written(tmp_path, monkeypatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table:one -->\nold\n<!-- /table:one -->\nafter\n")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    tables.main([dataclasses.replace(TABLES[0], page="page.md", name="one", text=lambda: "new\n")])
    assert page.read_text() == ("before\n<!-- table:one -->\nnew\n<!-- /table:one -->\nafter\n")
