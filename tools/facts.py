"""What a result was made on: hardware, versions, the library's build, the commit."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ansm_fast import __version__
from ansm_fast.ops import library
from tools.ops import ROOT


def machine() -> dict[str, Any]:
    """The processor and what runs on it."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "cpu": model,
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


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
        "torch_cuda": torch.version.cuda,
        "triton": _version_of("triton"),
        "liger_kernel": _version_of("liger-kernel"),
        **machine(),
    }
