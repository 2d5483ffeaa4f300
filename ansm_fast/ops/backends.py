"""Which implementation runs: cuda, triton, cpu or reference, and the exact reason for each "no".

An op calls ``choose(op, tensors, backend)``. A backend forced by the ``backend`` argument or by
the environment variable ``ANSM_FAST_BACKEND`` (read at import) never falls back silently.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from ansm_fast.ops import library

OPS = (
    "channelwise_kl",
    "dual_mask_loss",
    "bce_dice_loss",
    "clamp_project",
    "pgd_step_",
    "momentum_step_",
    "image_pack",
    "image_unpack",
)
BACKENDS = ("cuda", "triton", "cpu", "reference")
FORCED: str | None = os.environ.get("ANSM_FAST_BACKEND") or None


class BackendError(RuntimeError):
    """A backend that was asked for by name cannot run."""


def _device_reason(backend: str, tensors: Sequence[Tensor]) -> str | None:
    wanted = "cpu" if backend == "cpu" else "cuda"
    for tensor in tensors:
        if tensor.device.type != wanted:
            return f"it needs tensors on {wanted!r}, got one on {str(tensor.device)!r}"
    return None


def why_not(op: str, backend: str, tensors: Sequence[Tensor] = ()) -> str | None:
    """The reason why ``backend`` cannot run ``op`` on ``tensors``; None if it can."""
    if op not in OPS:
        raise ValueError(f"op must be one of {', '.join(OPS)}, got {op!r}")
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "reference":
        return None
    if backend == "cpu":
        if library.PATH is None:
            return library.WHY_NOT
        if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
            return "torch.func cannot transform compiled ops"
        return _device_reason(backend, tensors)
    if backend == "cuda":
        reason = "this version has no CUDA library"
        if torch.version.cuda is None:
            reason += f", and torch {torch.__version__} is built without CUDA"
        elif not torch.cuda.is_available():
            reason += ", and torch sees no CUDA device"
        return reason
    return "this version has no Triton kernels"


def can_run(
    op: str, backend: str, tensors: Sequence[Tensor] = (), *, raise_error: bool = False
) -> bool:
    """Whether ``backend`` can run ``op``; with ``raise_error`` a "no" is a BackendError."""
    reason = why_not(op, backend, tensors)
    if reason is not None and raise_error:
        raise BackendError(f"backend {backend!r} cannot run {op}: {reason}")
    return reason is None


def choose(op: str, tensors: Sequence[Tensor], backend: str | None = None) -> str:
    """The backend for this call: the forced one, or the first of BACKENDS that can run it."""
    forced = backend if backend is not None else FORCED
    if forced is not None:
        can_run(op, forced, tensors, raise_error=True)
        return forced
    for candidate in BACKENDS:
        if can_run(op, candidate, tensors):
            return candidate
    raise AssertionError("the reference runs everywhere")
