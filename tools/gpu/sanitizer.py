"""compute-sanitizer around a small run of tools.gpu_check.

All kernels are watched, PyTorch's too, since initcheck must see who wrote an argument; a report
counts unless it names other kernels only.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys

import torch

from ansm_fast.ops.cases import BRAIN, FLOAT, HALF, Case
from tools import cases, ops
from tools.gpu import calls
from tools.gpu.correctness import FAILED, NOT_RUN, PASSED, Outcome

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
FOUND = 99  # exit code by which the tool says that it reported something
RAN = "gpu_check: the sanitizer's target ran"
_TIMEOUT = 1800


def target_cases() -> list[Case]:
    """One small case of each op, dtype, layout and set of options."""
    chosen: dict[object, Case] = {}
    for case in cases.cases(quick=True):
        if case.values != "random" or 0 in case.shape or case.dtype not in (FLOAT, HALF, BRAIN):
            continue
        key = (case.op, case.dtype, case.layout, case.rule, case.shape, str(case.options))
        chosen.setdefault(key, case)
    return list(chosen.values())


def run_target(backend: str, device: torch.device) -> None:
    """What the tool watches: every op forward and backward, its results not looked at."""
    for case in target_cases():
        tensors = calls.placed(calls.make(case), case.layout, device)
        calls.results(case, tensors, backend)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    print(RAN, flush=True)


def find_tool() -> str | None:
    """The tool on the PATH or in the toolkit."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    return shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path=f"{home}/bin{os.pathsep}{home}/compute-sanitizer"
    )


def kernel_names(backend: str) -> tuple[str, ...]:
    """Words by which a report names a kernel of the backend."""
    if backend != "triton":
        return ("ansm_fast",)
    from triton.runtime import JITFunction

    names = set()
    for op in ops.OPS:
        module = importlib.import_module(f"ansm_fast.kernels.{op}.triton_kernel")
        names |= {k for k, value in vars(module).items() if isinstance(value, JITFunction)}
    return tuple(sorted(names))


def reports(output: str) -> list[str]:
    """What the tool reported, a line each: the fault and the kernels that it is in."""
    found: list[str] = []
    for line in output.splitlines():
        if not line.startswith("========="):
            continue
        text = line.removeprefix("=========")
        inner = text.startswith("     ")  # deeper lines say more of the report before
        text = text.strip()
        if not text or text.startswith(("COMPUTE-SANITIZER", "ERROR SUMMARY", "RACECHECK SUMMARY")):
            continue
        if not inner:
            found.append(text)
        elif found and "Host Frame" not in text:
            found[-1] += f" {text}"
    return found


def verdict(backend: str, code: int, output: str) -> tuple[str, str]:
    """Status and detail of one run of the tool."""
    if code not in (0, FOUND) or RAN not in output:
        last = (output.strip().splitlines() or ["no output"])[-1]
        return FAILED, f"the run ended with {code}: {last}"[:500]
    if code == 0:
        return PASSED, ""
    told, names = reports(output), kernel_names(backend)
    ours = [text for text in told if any(name in text for name in names) or " at " not in text]
    if ours or not told:
        return FAILED, f"{len(ours)} reports; {ours[0] if ours else 'unread'}"[:500]
    return PASSED, f"{len(told)} reports, none of them about the project's kernels"


def command(tool: str, check: str, backend: str) -> list[str]:
    options = ["--tool", check, "--error-exitcode", str(FOUND), "--show-backtrace", "no"]
    script = [sys.executable, "-m", "tools.gpu_check", "--sanitize-target", "--backends", backend]
    return [tool, *options, *script]


def run(backend: str, tool: str | None = None) -> list[Outcome]:
    """An outcome of each of the tool's checks."""
    tool = tool or find_tool()
    if tool is None:
        reason = "compute-sanitizer is neither on the PATH nor in CUDA_HOME"
        return [Outcome("sanitizer", backend, "all", x, NOT_RUN, reason) for x in TOOLS]
    # Without PyTorch's caching allocator each tensor is an allocation with bounds of its own.
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    outcomes = []
    for check in TOOLS:
        try:
            done = subprocess.run(
                command(tool, check, backend), cwd=ops.ROOT, env=environment, text=True,
                timeout=_TIMEOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            status, detail = verdict(backend, done.returncode, done.stdout)
        except (OSError, subprocess.TimeoutExpired) as error:
            status, detail = FAILED, " ".join(str(error).split())[-500:]
        outcomes.append(Outcome("sanitizer", backend, "all", check, status, detail))
    return outcomes
