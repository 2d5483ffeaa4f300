from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ansm_fast.ops import library

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_abi.py"

pytestmark = pytest.mark.skipif(
    library.PATH is None or shutil.which("nm") is None or not SCRIPT.exists(),
    reason="needs the compiled library, the source tree and nm",
)


@pytest.fixture
def check_abi():
    spec = importlib.util.spec_from_file_location("check_abi", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_library_keeps_to_the_stable_abi() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, library.PATH, "--load", sys.executable],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "none besides" in done.stdout and "channelwise_kl" in done.stdout


def test_unstable_symbols_are_seen(check_abi) -> None:
    symbols = [
        "aoti_torch_get_dim", "torch_call_dispatcher", "at::_ops::add_Tensor::call(at::Tensor)",
        "c10::Error::Error()", "PyObject_Call", "memcpy@GLIBC_2.14",
    ]  # fmt: skip
    assert check_abi.unstable(symbols) == symbols[2:5]
