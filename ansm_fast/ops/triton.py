"""Where Triton can run the ops, in the namespace ``ansm_fast_triton``."""

from __future__ import annotations

import importlib.util
import os

import torch

NAMESPACE = "ansm_fast_triton"


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on CPU tensors too."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in {"1", "true", "on", "yes", "y"}


def devices() -> tuple[str, ...]:
    """The kinds of device whose tensors the kernels take."""
    return ("cuda", "cpu") if interpreted() else ("cuda",)


def why_not() -> str | None:
    """The reason why Triton cannot run the ops; None if it can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; pip install triton"
    if interpreted() or torch.cuda.is_available():
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        reason = f"torch {torch.__version__} is built without CUDA"
    else:
        reason = "torch sees no CUDA device"
    return f"{reason} (TRITON_INTERPRET=1 runs the kernels on CPU tensors, slowly)"
