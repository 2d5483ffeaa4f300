"""The rule by which a training's end is judged, and how it is told."""

from __future__ import annotations

import json

import pytest

from ansm_fast.evaluation.verdict import FAILS, IN_PART, WORKS, judge, markdown, write_verdict

ATTACKS = {"none": True, "pgd": False, "hide": True, "universal": True}
AREAS = {"none": 0.01, "jpeg": 0.05}


def rows(ansm, jpeg=(0.6, 0.5, 0.5, 0.5), none=(0.8, 0.1, 0.0, 0.1), area=0.02):
    """F1 under no attack, PGD, hide and the universal one."""
    columns = {"none": none, "jpeg": jpeg, "ansm": ansm}
    return [
        {
            "attack": attack,
            "defence": defence,
            "f1": columns[defence][index],
            "area_pristine": AREAS.get(defence, area),
            "seen": None if defence != "ansm" or attack == "none" else attack != "universal",
        }
        for index, attack in enumerate(ATTACKS)
        for defence in columns
    ] + [{"attack": "none", "defence": "all-marked", "f1": 0.24, "area_pristine": 1, "seen": None}]


CASES = [
    ((0.8, 0.7, 0.72, 0.76), {}, WORKS, ""),
    ((0.8, 0.0, 0.72, 0.76), {}, WORKS, ""),  # PGD is not mask-free
    ((0.8, 0.7, 0.66, 0.66), {}, IN_PART, "less than 0.85 is restored"),
    ((0.78, 0.7, 0.72, 0.76), {}, IN_PART, "less than 0.99 is kept"),
    ((0.8, 0.7, 0.72, 0.76), {"area": 0.06}, IN_PART, "marks 0.05 more of pristine images"),
    ((0.7, 0.7, 0.72, 0.76), {}, FAILS, "unattacked images lose too much"),
    ((0.8, 0.7, 0.35, 0.35), {}, FAILS, "JPEG-75 is as good"),
    ((0.8, 0.1, 0.0, 0.1), {"jpeg": (0.1, 0.1, 0.1, 0.1)}, FAILS, "no defence is as good"),
    ((0.81, 0.8, 0.81, 0.8), {"none": (0.8, 0.8, 0.8, 0.8)}, FAILS, "nothing is to be restored"),
    ((0.3, 0.3, 0.3, 0.3), {"none": (0.26, 0, 0, 0)}, FAILS, "finds hardly more than marking"),
]
OTHER = (
    "use it as it is",
    "train the localizer further, or give images of the kind that it knows",
)


@pytest.mark.parametrize(("ansm", "others", "word", "reason"), CASES)
def test_the_rule(ansm, others, word, reason) -> None:
    verdict = judge(rows(ansm, **others), "standard")
    assert verdict.word == word and reason in verdict.reason
    assert verdict.sentence().startswith(f"verdict: {word}")
    assert ("--preset standard" in verdict.advice) == bool(reason and verdict.advice not in OTHER)


def test_figures() -> None:
    verdict = judge(rows((0.8, 0.7, 0.72, 0.76)))
    assert (verdict.kept, verdict.restored, verdict.marked) == (1.0, 0.925, 0.01)
    assert verdict.ansm == pytest.approx((0.8 + 0.72 + 0.76) / 3, abs=1e-4)
    assert "--preset" not in verdict.advice


@pytest.mark.parametrize(("attack", "word"), [("pgd", WORKS), ("hide", IN_PART)])
def test_what_is_marked_of_attacked_pristine_images_counts(attack, word) -> None:
    found = rows((0.8, 0.7, 0.72, 0.76))
    for row in found:
        if (row["attack"], row["defence"]) == (attack, "ansm"):
            row["area_pristine"] = 0.3
    verdict = judge(found)
    assert verdict.word == word
    assert verdict.marked == pytest.approx(0.01 if word == WORKS else 0.34 / 3 - 0.01, abs=1e-4)


def test_without_pristine_images_nothing_is_said_of_them() -> None:
    found = [row | {"area_pristine": None} for row in rows((0.8, 0.7, 0.72, 0.76))]
    verdict = judge(found)
    assert verdict.word == WORKS and verdict.marked is None
    assert "(" not in markdown(verdict, found, "8 images").split("| no attack ")[1].split("\n")[0]


def test_it_is_written(tmp_path) -> None:
    found = rows((0.8, 0.7, 0.72, 0.76))
    verdict = judge(found)
    write_verdict(tmp_path, verdict, found, "8 images of set", "ansm-fast train ansm")
    document = json.loads((tmp_path / "verdict.json").read_text())
    assert document["verdict"]["word"] == WORKS and len(document["rows"]) == 13
    assert document["command"] == "ansm-fast train ansm"
    text = (tmp_path / "verdict.md").read_text()
    assert "| no attack | – | 0.800 (1.0 %) | 0.600 (5.0 %) | 0.800 (2.0 %) | 0.240 |" in text
    assert "| PGD, hide ‡ | yes | 0.000 (1.0 %) |" in text and "| universal ‡ | no |" in text
    assert text.endswith(f"{verdict.sentence()}\n")
