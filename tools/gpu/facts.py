"""What a run was on: hardware, versions, the library's build, the commit."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ansm_fast import __version__
from ansm_fast.ops import library

ROOT = Path(__file__).resolve().parents[2]


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _output_of(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def commit() -> dict[str, Any]:
    """Of the checkout; None where there is none."""
    changed = _output_of("git", "status", "--porcelain", "--untracked-files=no")
    return {
        "commit": _output_of("git", "rev-parse", "HEAD"),
        "changed": None if changed is None else bool(changed),
    }


def _nvidia_smi(asked: str) -> dict[str, str]:
    fields = ("driver_version", "clocks.max.sm", "clocks.max.memory", "power.limit")
    text = _output_of(
        "nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", f"--id={asked}"
    )
    values = text.splitlines()[0].split(",") if text else []
    return {k: v.strip() for k, v in zip(fields, values, strict=False)}


def gpu(index: int = 0) -> dict[str, Any] | None:
    """The GPU that is measured; None without one."""
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(index)
    # nvidia-smi counts without CUDA_VISIBLE_DEVICES: it is asked by the device's own name.
    uuid = getattr(properties, "uuid", None)
    asked = f"GPU-{uuid}" if uuid else str(index)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_bytes": properties.total_memory,
        "multiprocessors": properties.multi_processor_count,
        "l2_bytes": getattr(properties, "L2_cache_size", None),
        "count": torch.cuda.device_count(),
        **_nvidia_smi(asked),
    }


def facts() -> dict[str, Any]:
    return {
        "gpu": gpu(),
        "ansm_fast": __version__,
        **commit(),
        "build": library.build_info(),
        "cuda_library_missing_because": library.CUDA_WHY_NOT or None,
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "triton": _version_of("triton"),
        "liger_kernel": _version_of("liger-kernel"),
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
    }
