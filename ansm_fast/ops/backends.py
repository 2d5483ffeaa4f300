"""Which implementation runs: cuda, triton, cpu or reference, and the exact reason for each "no".

An op calls ``choose(op, tensors, backend)`` and, unless the answer is "reference", a kernel of
``native(answer)``. A backend forced by the ``backend`` argument or by the environment variable
``ANSM_FAST_BACKEND`` (read at import) never falls back silently; where none is forced, a fall back
to the reference is a ``SlowBackendWarning``, once for each reason.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ansm_fast.ops import discovery, library, slow, triton
from ansm_fast.ops.checks import has_tangent
from ansm_fast.ops.discovery import Kernels, bind, define_ops, schemas

OPS: tuple[str, ...] = ()  # the public functions of all op folders
BACKENDS = ("cuda", "triton", "cpu", "reference")
FORCED: str | None = os.environ.get("ANSM_FAST_BACKEND") or None


class BackendError(RuntimeError):
    """A backend that was asked for by name cannot run."""


@dataclass(frozen=True)
class Backend:
    """Kernels, the kinds of device whose tensors they take, or why they cannot run at all."""

    devices: tuple[str, ...] = ()
    kernels: Kernels | None = None
    why_not: str = ""


_BACKENDS: dict[str, Backend] = {}


def _cuda_why_not() -> str:
    if library.CUDA_PATH is None:
        return library.CUDA_WHY_NOT
    return "" if torch.cuda.is_available() else "torch sees no CUDA device"


def _found() -> dict[str, Backend]:
    define_ops("ansm_fast")
    library.load(schemas())
    compiled = bind("ansm_fast") if library.PATH or library.CUDA_PATH else None
    no_cuda, no_triton = _cuda_why_not(), triton.why_not() or ""
    if not no_triton:
        define_ops(triton.NAMESPACE)
    return {
        "cuda": Backend(why_not=no_cuda) if no_cuda else Backend(("cuda",), compiled),
        "triton": Backend(why_not=no_triton)
        if no_triton
        else Backend(triton.devices(), bind(triton.NAMESPACE, fakes=False)),
        "cpu": Backend(("cpu",), compiled, library.WHY_NOT),
    }


@functools.cache
def _no_code_for(index: int) -> str | None:
    """Why the CUDA library has no code for a device."""
    built = (library.build_info() or {}).get("cuda") or {}
    architectures = built.get("architectures")
    if not architectures:
        return None
    capability = torch.cuda.get_device_capability(index)
    if library.has_code_for(architectures, capability):
        return None
    major, minor = capability
    return (
        f"the CUDA library was built for {', '.join(architectures)}, not for this device's "
        f"{major}.{minor}; install ansm_fast again with TORCH_CUDA_ARCH_LIST={major}.{minor}"
    )


def _is_transformed() -> bool:
    """Whether torch.func or forward-mode differentiation is at work."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _tensor_reason(name: str, backend: Backend, tensors: Sequence[Tensor]) -> str | None:
    for tensor in tensors:
        if tensor.device.type not in backend.devices:
            wanted = " or ".join(map(repr, backend.devices))
            return f"it needs tensors on {wanted}, got one on {str(tensor.device)!r}"
    if name == "cuda" and tensors and not torch.compiler.is_compiling():
        return _no_code_for(tensors[0].device.index or 0)
    return None


def why_not(op: str, backend: str, tensors: Sequence[Tensor] = ()) -> str | None:
    """Say why ``backend`` cannot run ``op`` on ``tensors``; None if it can."""
    if op not in OPS:
        raise ValueError(f"op must be one of {', '.join(OPS)}, got {op!r}")
    if backend == "reference":
        return None
    if backend not in _BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    found = _BACKENDS[backend]
    if found.why_not:
        return found.why_not
    if not torch.compiler.is_compiling():
        if torch._C._are_functorch_transforms_active():
            return "torch.func cannot transform compiled ops"
        if any(has_tangent(tensor) for tensor in tensors):
            return "compiled ops have no forward-mode derivative"
    return _tensor_reason(backend, found, tensors)


def can_run(
    op: str, backend: str, tensors: Sequence[Tensor] = (), *, raise_error: bool = False
) -> bool:
    """Tell whether ``backend`` can run ``op``; with ``raise_error`` "no" is a BackendError."""
    reason = why_not(op, backend, tensors)
    if reason is not None and raise_error:
        raise BackendError(f"backend {backend!r} cannot run {op}: {reason}")
    return reason is None


def choose(op: str, tensors: Sequence[Tensor], backend: str | None = None) -> str:
    """Choose the backend of a call: the forced one, or the first of BACKENDS that can run it."""
    forced = backend if backend is not None else FORCED
    if forced is None and not torch.compiler.is_compiling() and not _is_transformed():
        # The usual call, without the words for a "no": its tensors were found to share a device.
        device = tensors[0].device
        kind = device.type
        for candidate in slow.kernels_of(kind):
            found = _BACKENDS[candidate]
            runs = kind in found.devices and not found.why_not
            if runs and (candidate != "cuda" or _no_code_for(device.index or 0) is None):
                return candidate
    if backend is None and FORCED is not None and FORCED not in BACKENDS:
        raise BackendError(
            f"ANSM_FAST_BACKEND must be one of {', '.join(BACKENDS)}, got {FORCED!r}"
        )
    if forced is not None:
        can_run(op, forced, tensors, raise_error=True)
        return forced
    for candidate in BACKENDS[:-1]:
        if candidate == "triton" and any(t.device.type == "cpu" for t in tensors):
            continue  # its interpreter is for tests: slow, and never meant where nobody asks for it
        if can_run(op, candidate, tensors):
            return candidate
    _tell_slow(op, tensors)
    return BACKENDS[-1]


def _tell_slow(op: str, tensors: Sequence[Tensor]) -> None:
    """Warn where a kernel was to be expected; not under torch.func and forward mode, for which
    there is none."""
    device = tensors[0].device.type
    if torch.compiler.is_compiling():
        _tell_slow_while_compiling(op, device)
    elif not _is_transformed():
        slow.warn_about(
            op, device, lambda name: why_not(op, name, tensors), slow.kernels_of(device)
        )


def _tell_slow_while_compiling(op: str, device: str) -> None:
    """The same where Dynamo calls instead of tracing it: a warning would break the graph."""
    slow.warn_about(op, device, lambda name: why_not(op, name), slow.kernels_of(device))


# What torch.compiler.assume_constant_result does, which would import all of Dynamo here: as long
# again as torch itself takes, in every process.
_tell_slow_while_compiling._dynamo_marked_constant = True  # type: ignore[attr-defined]


def native(backend: str) -> Kernels:
    """Return the kernels of a backend that can run, by name."""
    kernels = _BACKENDS[backend].kernels
    if kernels is None:
        raise BackendError(f"backend {backend!r} cannot run: {_BACKENDS[backend].why_not}")
    return kernels


def register(name: str, backend: Backend) -> None:
    """Make another namespace reachable by ``backend=name``; it is never chosen unasked."""
    _BACKENDS[name] = backend


def load() -> None:
    """Find what can run; once, by ansm_fast.ops, when its folders can be imported."""
    global OPS
    OPS = discovery.functions()
    _BACKENDS.update(_found())
