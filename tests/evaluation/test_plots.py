from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from click.testing import CliRunner

from ansm_fast.cli.evaluate import command
from ansm_fast.errors import InputError


def run(small_set: Path, checkpoints: dict[str, Path], *extra: object):
    arguments = [
        small_set, "--localizer", checkpoints["localizer"], "--steps", 1, "--name", "held out/1",
        "--weights", f"mine={checkpoints['ansm']}", "--defences", "none,jpeg,ansm", *extra,
    ]  # fmt: skip
    return CliRunner().invoke(command, [str(part) for part in arguments])


def test_curves_and_strips_are_pictures_of_something(small_set, checkpoints, tmp_path) -> None:
    result = run(
        small_set, checkpoints, "--plots", tmp_path / "plots", "--attacks", "none,pgd,adaptive",
        "--adaptive-steps", 1, "--adaptive-restarts", 1,
        "--eps", "2/255,4/255,8/255",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = {path.name for path in (tmp_path / "plots").iterdir()}
    assert found == {
        "robustness-held_out_1.png",
        "strip-held_out_1-ansm_mine-pgd-4.png",
        "strip-held_out_1-ansm_mine-adaptive-4.png",
    }
    for path in (tmp_path / "plots").iterdir():
        picture = cv2.imread(str(path))
        assert min(picture.shape[:2]) > 200 and len(np.unique(picture)) > 50
        # Ink in every quarter: no panel is empty.
        height, width = picture.shape[0] // 2, picture.shape[1] // 2
        for part in (picture[:height], picture[height:], picture[:, :width], picture[:, width:]):
            assert (part < 200).mean() > 0.005


def test_nothing_attacked_gives_no_curve(small_set, checkpoints, tmp_path) -> None:
    result = run(small_set, checkpoints, "--plots", tmp_path / "plots", "--attacks", "none")
    assert result.exit_code == 0, result.output
    assert "0 pictures" in result.output and not list((tmp_path / "plots").iterdir())


def test_matplotlib_is_asked_for_before_the_work(
    small_set, checkpoints, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run(small_set, checkpoints, "--plots", tmp_path / "plots")
    assert isinstance(result.exception, InputError)
    assert "ansm-fast[evaluate]" in str(result.exception)
    assert not (tmp_path / "plots").exists()
