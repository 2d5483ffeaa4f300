"""Every op beside eager PyTorch, torch.compile and a copy, in pytest-benchmark's tables."""

from __future__ import annotations

import pytest
import torch

from benchmarks.cases import CASES
from benchmarks.timing import WARM_UPS, Flush


@pytest.mark.parametrize("implementation", ["ours", "eager", "compile", "copy"])
@pytest.mark.parametrize("name", CASES)
def test_op(benchmark, name, implementation) -> None:
    benchmark.group = name
    torch.manual_seed(0)
    work = CASES[name].make()[implementation]
    benchmark.pedantic(work, setup=Flush(), rounds=15, warmup_rounds=WARM_UPS)
