"""``ansm-fast attack``: what it says of the pair that it attacks."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from ansm_fast.cli.main import cli
from ansm_fast.errors import InputError


@pytest.fixture
def forgeries(tmp_path: Path, rng: np.random.Generator) -> Path:
    for part, channels in (("images", 3), ("masks", 1)):
        (tmp_path / part).mkdir()
        pixels = rng.integers(0, 256, (32, 32, channels), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / part / "a.png"), pixels)
    return tmp_path


@pytest.mark.parametrize(
    ("localizer", "weights", "warned"),
    [("builtin", "bundled", False), ("builtin", "robust", True), ("robust", "robust", False)],
)
def test_an_ansm_of_another_localizer_is_told(forgeries, localizer, weights, warned) -> None:
    result = CliRunner().invoke(
        cli,
        ["attack", str(forgeries), "-o", str(forgeries / "out"), "--steps", "1",
         "--localizer", localizer, "--weights", weights],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert ("trained for another localizer than builtin" in result.stderr) == warned
    assert (forgeries / "out" / "images" / "a.png").exists()


def test_restarts_are_recorded_and_refused_where_there_are_none(forgeries) -> None:
    arguments = ["attack", str(forgeries), "-o", str(forgeries / "out"), "--steps", "1"]
    arguments += ["--localizer", "builtin", "--restarts", "2", "--keep", "best"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "4.0 forwards, 2.0 backwards" in result.stdout  # one to choose for each start
    card = json.loads((forgeries / "out" / "attack.json").read_text())["attack"]
    assert (card["restarts"], card["keep"]) == (2, "best")
    result = CliRunner().invoke(cli, [*arguments, "--attack", "fgsm"])
    assert isinstance(result.exception, InputError)
    assert "restarts must be 1 and keep 'last' for the attack 'fgsm'" in str(result.exception)
