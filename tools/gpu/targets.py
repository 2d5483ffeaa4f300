"""Which backends are checked, on which device their tensors lie, and why one cannot run."""

from __future__ import annotations

import torch

from ansm_fast.ops import backends, triton
from ansm_fast.ops.discovery import bind, define_ops
from tools.simt import build

ON_A_GPU = ("cuda", "triton")


def no_gpu() -> str | None:
    """Why there is no GPU; None if there is one."""
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built without CUDA"
    return "torch sees no CUDA device"


def device_of(backend: str) -> torch.device:
    """A GPU for "cuda" and for "triton", unless Triton's interpreter has none; else the CPU."""
    if backend == "cuda" or (
        backend == "triton" and not (triton.interpreted() and not torch.cuda.is_available())
    ):
        return torch.device("cuda", 0)
    return torch.device("cpu")


def register_simt(variant: str = "plain") -> None:
    """Make backend "simt" known: the CUDA kernels on the CPU, built where they are not."""
    define_ops(build.NAMESPACE)
    torch.ops.load_library(str(build.library(variant)))
    backends.register("simt", backends.Backend(("cpu",), bind(build.NAMESPACE)))


def why_not(backend: str) -> str | None:
    """Why a backend runs no op at all here.

    Raises:
        ValueError: there is no such backend.
    """
    if backend == "simt":
        try:
            backends.why_not(backends.OPS[0], "simt")
        except ValueError:
            register_simt()
    return backends.why_not(backends.OPS[0], backend)
