"""``ansm-fast doctor``: which implementation of each op runs here, and why another does not."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click


def _driver() -> dict[str, str | None]:
    """Version of the GPU driver and the newest CUDA that it supports."""
    kernel, cuda = None, None
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
        found = re.search(r"\b\d+\.\d+(\.\d+)?\b", text)
        kernel = found[0] if found else None
    except OSError:
        pass
    number = ctypes.c_int(0)
    try:
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number)) == 0:
            cuda = f"{number.value // 1000}.{number.value % 1000 // 10}"
    except (OSError, AttributeError):
        pass
    return {"version": kernel, "cuda": cuda}


def _devices(architectures: list[str]) -> list[dict[str, Any]]:
    """Every GPU that torch sees, and how the CUDA library's code would run on it."""
    import torch

    from ansm_fast.ops.library import has_code_for

    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        capability = (properties.major, properties.minor)
        found.append(
            {
                "name": properties.name,
                "capability": f"{capability[0]}.{capability[1]}",
                "memory": properties.total_memory,
                "multiprocessors": properties.multi_processor_count,
                "cuda_library_code": has_code_for(architectures, capability),
            }
        )
    return found


def _packages() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in ("numpy", "opencv-python", "pillow", "safetensors", "triton"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _weights() -> dict[str, str]:
    from ansm_fast.errors import InputError
    from ansm_fast.localizers import BUNDLED_LOCALIZERS, load_localizer
    from ansm_fast.models import load_ansm
    from ansm_fast.models.bundled import BUNDLED_ANSMS

    found = {}
    for kind, load, names in (
        ("localizer", load_localizer, BUNDLED_LOCALIZERS), ("ansm", load_ansm, BUNDLED_ANSMS),
    ):  # fmt: skip
        for name in names:
            try:
                found[f"{kind} {name}"] = load(name).fingerprint
            except InputError as error:
                found[f"{kind} {name}"] = f"not usable: {error}"
    return found


def report() -> dict[str, Any]:
    """Everything the command prints, as JSON values."""
    import torch

    from ansm_fast import __version__
    from ansm_fast.ops import backends, library

    build = library.build_info()
    cuda_build = (build or {}).get("cuda") or {}
    return {
        "version": __version__,
        "backends": {
            op: {name: backends.why_not(op, name) or "available" for name in backends.BACKENDS}
            for op in backends.OPS
        },
        "forced_backend": backends.FORCED,
        "library": str(library.PATH) if library.PATH else None,
        "library_missing_because": library.WHY_NOT or None,
        "cuda_library": str(library.CUDA_PATH) if library.CUDA_PATH else None,
        "cuda_library_missing_because": library.CUDA_WHY_NOT or None,
        "build": build,
        "runtime": {
            "python": platform.python_version(),
            "system": platform.platform(terse=True),
            "torch": torch.__version__,
            "torch_cuda": torch.version.cuda,
            "driver": _driver(),
            "devices": _devices(cuda_build.get("architectures", [])),
            "threads": torch.get_num_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "cpu_capability_limit": os.environ.get("ANSM_FAST_CPU_CAPABILITY"),
        },
        "packages": _packages(),
        "weights": _weights(),
    }


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True)
    ops = Table(title="Implementations, in the order in which they are tried")
    for title in ("backend", "ops", "state"):
        ops.add_column(title, overflow="fold")
    for backend in next(iter(found["backends"].values())):
        by_state: dict[str, list[str]] = {}
        for op, states in found["backends"].items():
            by_state.setdefault(states[backend], []).append(op)
        for state, names in by_state.items():
            shown = "all" if len(names) == len(found["backends"]) else ", ".join(names)
            ops.add_row(backend, shown, state)
    console.print(ops)
    forced = found["forced_backend"]
    if forced:
        known = next(iter(found["backends"].values()))
        none = "" if forced in known else f", which is none of {', '.join(known)}: unset it"
        console.print(f"ANSM_FAST_BACKEND forces {forced}{none}", markup=False)
    build, runtime = found["build"], found["runtime"]
    rows = Table(title=f"ansm_fast {found['version']}", show_header=False)
    rows.add_column()
    rows.add_column(overflow="fold")
    if build is None:
        rows.add_row("built", f"without native code: {found['library_missing_because']}")
    else:
        rows.add_row("built with", f"torch {build['torch']}, {build['compiler']}")
        rows.add_row("instruction sets", ", ".join(build["instruction_sets"]))
        rows.add_row("CPU library", found["library"] or found["library_missing_because"])
        cuda = build.get("cuda")
        if cuda:
            shown = f"nvcc {cuda['nvcc']} for {', '.join(cuda['architectures'])}"
            rows.add_row("CUDA built with", shown)
        because = found["cuda_library_missing_because"]
        rows.add_row("CUDA library", found["cuda_library"] or because)
    rows.add_row("runs on", f"Python {runtime['python']}, {runtime['system']}")
    rows.add_row("torch", f"{runtime['torch']}, CUDA {runtime['torch_cuda'] or 'none'}")
    driver = runtime["driver"]
    shown = f"{driver['version'] or 'unknown version'}, CUDA up to {driver['cuda']}"
    rows.add_row("GPU driver", shown if driver["cuda"] else "none")
    for index, device in enumerate(runtime["devices"]):
        code = device["cuda_library_code"] or "no code"
        rows.add_row(
            f"GPU {index}",
            f"{device['name']}, {device['capability']}, {device['memory'] / 2**30:.0f} GiB, "
            f"{device['multiprocessors']} multiprocessors"
            + (f"; the CUDA library has {code} for it" if found["cuda_library"] else ""),
        )
    if not runtime["devices"]:
        rows.add_row("GPUs", "none")
    rows.add_row("CPU", f"{runtime['cpu_capability']}, {runtime['threads']} threads")
    for name, number in found["packages"].items():
        rows.add_row(name, number or "not installed")
    for name, mark in found["weights"].items():
        rows.add_row(f"bundled {name}", mark)
    console.print(rows)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def command(as_json: bool) -> None:
    """Show every op and backend with the reason for each that is not available."""
    found = report()
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _print(found)
