"""What is timed: the ops' benchmarks on each backend, beside eager PyTorch and other peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ansm_fast.ops.cases import Benchmark
from tools.bench.timing import Work
from tools.cases import described

PEERS = ("eager", "compile", "liger")


def benchmarks(quick: bool = False) -> list[Benchmark]:
    """Everything, or the sizes that the CPU's benchmark has, too."""
    found = [benchmark for op in described().values() for benchmark in op.benchmarks()]
    return [benchmark for benchmark in found if benchmark.quick] if quick else found


def _work(function: Callable[..., Tensor], tensors: Sequence[Tensor]) -> Work:
    """With the backward, where there is one; gives the result. Nothing accumulates, so that it can
    be captured."""
    leaves = [tensor for tensor in tensors if tensor.requires_grad]

    def work() -> Tensor:
        value = function(*tensors)
        if leaves:
            torch.autograd.grad(value, leaves)
        return value.detach()

    return work


def implementations(
    benchmark: Benchmark, device: torch.device, backends: Sequence[str], peers: Sequence[str]
) -> dict[str, Work]:
    """A callable for each backend and for each peer that has such a function."""
    tensors = benchmark.inputs(device)
    found = {name: _work(partial(benchmark.ours, backend=name), tensors) for name in backends}
    theirs = benchmark.for_eager(*tensors)
    if "eager" in peers:
        found["eager"] = _work(benchmark.eager, theirs)
    if "compile" in peers:
        found["compile"] = _work(torch.compile(benchmark.eager), theirs)
    for name in set(peers) & benchmark.peers.keys():
        function = benchmark.peers[name]()
        if function is not None:
            found[name] = _work(function, theirs)
    return found
