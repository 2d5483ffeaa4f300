from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from ansm_fast.cli.main import main


@dataclass
class Result:
    """What a command left: exit code, stdout, and the lines of stderr."""

    code: int
    out: str
    err: list[str]


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls ``ansm-fast`` in this process, with the arguments of a command line."""

    def call(line: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["ansm-fast", *shlex.split(line)])
        with monkeypatch.context() as one:
            # --debug sets it, for processes that the command starts.
            one.setenv("ANSM_FAST_DEBUG", os.environ.get("ANSM_FAST_DEBUG", ""))
            with pytest.raises(SystemExit) as left:
                main()
        said = capsys.readouterr()
        return Result(left.value.code or 0, said.out, said.err.splitlines())  # type: ignore[arg-type]

    return call


@pytest.fixture
def forgeries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder "set" with two small forgeries, in the working directory."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / "set" / part).mkdir(parents=True)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 8:24] = 255
    for name in ("a", "b"):
        image = rng.integers(0, 256, (32, 32, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "set" / "images" / f"{name}.png"), image)
        cv2.imwrite(str(tmp_path / "set" / "masks" / f"{name}.png"), mask)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "set"
