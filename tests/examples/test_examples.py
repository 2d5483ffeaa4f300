"""The committed examples are what they are said to be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ansm_fast.data import FolderDataset
from ansm_fast.localizers import load_localizer

EXAMPLES = Path(__file__).parents[2] / "examples"


def read(name: str) -> FolderDataset:
    return FolderDataset(EXAMPLES / name / "images", EXAMPLES / name / "masks")


def test_attacked_within_four_grey_levels_of_the_forged() -> None:
    forged, attacked = read("forged"), read("attacked")
    assert forged.names == attacked.names and len(forged) == 6
    for index in range(len(forged)):
        before, after = forged[index], attacked[index]
        assert np.abs(after["image"].astype(int) - before["image"]).max() == 4
        assert before["mask"].any() and np.array_equal(before["mask"], after["mask"])


def test_the_record_names_the_bundled_localizer() -> None:
    card = json.loads((EXAMPLES / "attacked" / "attack.json").read_text(encoding="utf-8"))
    assert card["localizer"] == load_localizer().fingerprint
    lines = [json.loads(line) for line in (EXAMPLES / "attacked" / "metadata.jsonl").open()]
    assert [line["name"] for line in lines] == read("forged").names
    assert {line["attack"] for line in lines} == {"pgd"} and {line["eps"] for line in lines} == {
        4 / 255
    }
