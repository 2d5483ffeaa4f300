from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ansm_fast.ops import triton

HERE = Path(__file__).parent


def run(kind: str, interpret: str) -> None:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    environment = os.environ | {"TRITON_INTERPRET": interpret, "ANSM_FAST_TRITON_TESTS": kind}
    environment.pop("ANSM_FAST_BACKEND", None)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-W", "ignore::RuntimeWarning"]
    done = subprocess.run(
        [*command, str(HERE / kind)],
        cwd=HERE,  # not where a source tree would hide the installed package
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_interpreted_kernels() -> None:
    run("interpreted", "1")


@pytest.mark.slow
def test_compiled_kernels() -> None:
    run("compiled", "0")


def test_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("triton") is None:
        assert "not installed" in (triton.why_not() or "")
        return
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert triton.devices() == ("cuda",)
    reason = triton.why_not()
    assert (reason is None) == torch.cuda.is_available()
    assert reason is None or ("CUDA" in reason and "TRITON_INTERPRET=1" in reason)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert triton.why_not() is None and triton.devices() == ("cuda", "cpu")
