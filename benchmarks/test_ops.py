"""Every op beside eager PyTorch and torch.compile, in pytest-benchmark's tables."""

from __future__ import annotations

import pytest
import torch
from cases import CASES


@pytest.mark.parametrize("implementation", ["ours", "eager", "compile"])
@pytest.mark.parametrize("name", CASES)
def test_op(benchmark, name, implementation) -> None:
    benchmark.group = name
    torch.manual_seed(0)
    work = CASES[name].make()[implementation]
    benchmark.pedantic(work, rounds=15, warmup_rounds=3)
