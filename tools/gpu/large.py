"""The ops' checks on tensors of more than 2**31 elements, where the memory is there."""

from __future__ import annotations

import torch

from ansm_fast.ops.large import BEYOND
from tools.cases import described
from tools.gpu.correctness import NOT_RUN, Outcome, attempt


def free_bytes(device: torch.device) -> int:
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])


def run(
    backend: str, device: torch.device, elements: int = BEYOND, free: int | None = None
) -> list[Outcome]:
    """Each check that the free memory allows, ``elements`` long."""
    outcomes = []
    for large in (check for op in described().values() for check in op.large_checks):
        op, name = large.op, f"{large.check.__name__} of {elements} elements"
        free_now = free_bytes(device) if free is None else free
        needed = elements * large.bytes
        if needed > 0.9 * free_now:
            reason = f"needs {needed / 2**30:.0f} GiB, {free_now / 2**30:.0f} GiB are free"
            outcomes.append(Outcome("large", backend, op, name, NOT_RUN, reason))
            continue
        outcomes.append(
            attempt("large", backend, op, name, lambda f=large.check: f(backend, device, elements))
        )
    return outcomes
