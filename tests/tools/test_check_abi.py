from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ansm_fast.ops import library
from tools import check_abi

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    library.PATH is None or shutil.which("nm") is None,
    reason="needs the compiled library and nm",
)


def test_the_library_keeps_to_the_stable_abi() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.check_abi", library.PATH, "--load", sys.executable],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "none besides" in done.stdout and "channelwise_kl" in done.stdout


def test_unstable_symbols_are_seen() -> None:
    symbols = [
        "aoti_torch_get_dim", "torch_call_dispatcher", "at::_ops::add_Tensor::call(at::Tensor)",
        "c10::Error::Error()", "PyObject_Call", "memcpy@GLIBC_2.14",
    ]  # fmt: skip
    assert check_abi.unstable(symbols) == symbols[2:5]
