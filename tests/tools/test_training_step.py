from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ansm_fast.localizers import BuiltinLocalizer, save_localizer
from ansm_fast.localizers.builtin import LocalizerConfig
from ansm_fast.training.config import parse_run
from tools.training_step import PARTS, Row, document, measured, peak_of, preset, table

CPU = torch.device("cpu")


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(8):
        mask = np.zeros((48, 48), np.uint8)
        mask[:20, :20] = 255
        cv2.imwrite(str(tmp_path / f"images/{number}.png"), rng.integers(0, 255, (48, 48, 3)))
        cv2.imwrite(str(tmp_path / f"masks/{number}.png"), mask)
    return tmp_path


def test_every_stage_has_every_part(data) -> None:
    torch.manual_seed(0)
    path = data / "localizer.safetensors"
    save_localizer(path, BuiltinLocalizer(LocalizerConfig((8, 8, 8, 8))))
    whole = preset("quick", str(path), data)
    small = {
        "variant": "tiny", "initial": None, "crop": 32, "batch_size": 2, "steps": 10,
        "attack_cache_size": 8, "renew_every": 5,
        "detect": {"steps": 4, "crop": 32, "batch_size": 2}, "ffa": {"steps": 2},
        "attacks": [{"name": "fgsm"}],
    }  # fmt: skip
    data_settings = whole.settings()["data"] | {"window": 48}
    run = parse_run(whole.settings() | small | {"data": data_settings}, "test")
    rows = measured(run, CPU)
    assert [(row.stage, row.steps) for row in rows] == [("detection", 4), ("FFA", 2), ("MgR", 4)]
    assert all(tuple(row.seconds) == PARTS for row in rows)
    assert all(row.seconds["attack"] == rows[0].seconds["attack"] > 0 for row in rows)
    assert rows[0].seconds["localizer"] == 0 < rows[1].seconds["localizer"]
    assert table(document(rows, run, "quick", CPU)).count("\n") == 7


def test_shares_are_of_the_whole_run() -> None:
    def row(stage: str, steps: int, attack: float, ansm: float) -> Row:
        parts = dict.fromkeys(PARTS, 0.0) | {"attack": attack, "ansm": ansm}
        return Row(stage, steps, parts, 1 << 20)

    run = preset("quick", "builtin", Path("unused"))
    assert run.data.train == Path("unused")
    found = document([row("detection", 30, 1, 1), row("MgR", 10, 1, 5)], run, "quick", CPU)
    assert found["attack_share"] == round(40 / 120, 4) and found["minutes"] == 2.0
    assert "attacks take 33 % of 2 minutes" in table(found) and "1 MiB" in table(found)


def test_the_peak_is_of_the_work_alone() -> None:
    def work() -> None:
        torch.ones(64 << 20, dtype=torch.uint8)

    assert 60 << 20 < peak_of(work, CPU) < 80 << 20
