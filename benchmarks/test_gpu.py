"""Every op on a GPU in pytest-benchmark's tables; the result files are tools.gpu_check's."""

from __future__ import annotations

import pytest
import torch

from ansm_fast.ops import backends
from tools.bench.work import PEERS, benchmarks, implementations

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch sees no CUDA device; these benchmarks need a GPU"
)
BACKENDS = ("cuda", "triton")
BENCHMARKS = {f"{b.name} {b.dtype}": b for b in benchmarks(quick=True)}


@pytest.mark.parametrize("implementation", [*BACKENDS, *PEERS])
@pytest.mark.parametrize("name", BENCHMARKS)
def test_op(benchmark, name, implementation) -> None:
    if implementation in BACKENDS:
        reason = backends.why_not("channelwise_kl", implementation)
        if reason:
            pytest.skip(reason)
    benchmark.group = name
    torch._dynamo.reset()
    ours = [implementation] if implementation in BACKENDS else []
    works = implementations(BENCHMARKS[name], torch.device("cuda"), ours, [implementation])
    if implementation not in works:
        pytest.skip(f"{implementation} has no such op, or is not installed")

    def work() -> None:
        works[implementation]()
        torch.cuda.synchronize()

    benchmark.pedantic(work, rounds=30, warmup_rounds=5)
