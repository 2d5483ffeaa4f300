"""What is timed on a CPU: an op, eager PyTorch and torch.compile on the same tensors, and a copy.

The copy reads and writes as many bytes together as the op must move: what memory allows. Sizes and
peers are those of the ops' ``cases.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ansm_fast.ops.cases import FLOAT, Benchmark
from tools.bench.work import benchmarks
from tools.cases import described

Work = Callable[[], object]


@dataclass(frozen=True)
class Case:
    benchmark: Benchmark

    def make(self) -> dict[str, Work]:
        """A callable for each of "ours", "eager", "compile" and "copy"."""
        tensors = self.benchmark.for_eager(*self.benchmark.inputs(torch.device("cpu")))
        size = self.benchmark.bytes_for_eager or self.benchmark.bytes
        source, target = (torch.zeros(size // 2, dtype=torch.uint8) for _ in range(2))
        functions = {
            "ours": self.benchmark.ours,
            "eager": self.benchmark.eager,
            "compile": torch.compile(self.benchmark.eager),
        }
        works = {name: _work(function, tensors) for name, function in functions.items()}
        return works | {"copy": lambda: target.copy_(source)}


def _work(function: Callable[..., Tensor], tensors: tuple[Tensor, ...]) -> Work:
    leaves = [tensor for tensor in tensors if tensor.requires_grad]

    def forward() -> Tensor:
        return function(*tensors)

    def forward_and_backward() -> None:
        for leaf in leaves:
            leaf.grad = None  # dropped before each step, as a training does
        function(*tensors).backward()

    return forward_and_backward if leaves else forward


CASES = {b.name: Case(b) for b in benchmarks(quick=True) if b.dtype == FLOAT and b.cpu_targets}
OPS = {b.name: op for op, of in described().items() for b in of.benchmarks() if b.name in CASES}
