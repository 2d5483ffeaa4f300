"""Every instance of every Triton kernel compiled for devices that need not be there.

python -m tools.triton.compile_report [--json] [--brief] [--architecture 80 90 100] [--dtype ...]

The ops are called on tensors of real sizes, and what they would launch is compiled as a launch
would: with the same specializations. Registers, stack and local memory come from the cubin, the
widths of accesses to global memory from its machine code. A row an instance, and an exit status of
1 where one spills or has a stack, or where one makes no access of 128 bits though rows start
aligned. Not for the process that interprets kernels.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget

from ansm_fast.ops import triton_launch
from ansm_fast.ops.discovery import define_ops
from ansm_fast.ops.triton import NAMESPACE

ARCHITECTURES = (80, 90, 100)
DTYPES = ("float32", "bfloat16", "float16", "float64")
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
REGISTERS = 65536  # of one multiprocessor
# Kernels that walk a few numbers for each row or sample, whatever their alignment.
SMALL = ("combine", "sum_kernel", "scales_kernel", "shrink", "radial")
Call = tuple[str, str, bool, tuple[Any, ...]]  # op, label, whether rows start aligned, arguments

define_ops(NAMESPACE)


class Device:
    """What Triton asks a driver when it compiles."""

    architecture = ARCHITECTURES[0]

    def get_current_device(self) -> int:
        return self.architecture  # Triton keeps what it compiled for each device

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.architecture, 32)


# --- calls that make ops launch every kernel in the shapes they are made for ---------------------


def laid_out(shape: tuple[int, ...], dtype: torch.dtype, last: bool) -> Tensor:
    if not last:
        return torch.empty(shape, dtype=dtype)
    return torch.empty((shape[0], *shape[2:], shape[1]), dtype=dtype).movedim(-1, 1)


def kl_calls(dtype: torch.dtype, brief: bool) -> Iterator[Call]:
    """Rows of several lengths, the longest that one tile holds among them, and split ones."""
    longest = (64, 64) if dtype == torch.float64 else (64, 128)
    sizes = [longest, (128, 128), (64, 64), (64, 32), (16, 16), (7, 7), (61, 67)]
    for last in (False, True):
        for size in sizes[: 2 if brief else None]:
            for alpha, grads in (
                (0.0, (True, False)), (0.0, (False, True)), (0.1, (True, True)),
                (0.0, (False, False)),
            ):  # fmt: skip
                if grads != (True, False) and size not in sizes[:4]:
                    continue
                maps = [laid_out((1, 64, *size), dtype, last) for _ in range(2)]
                shape = f"64x{size[0]}x{size[1]}{' last' if last else ''}"
                which = "".join("ft"[k] for k in range(2) if grads[k])
                label = f"{shape} alpha={alpha:g} gradients={which or 'none'}"
                aligned = last or size[0] % 2 == 0
                yield "channelwise_kl", label, aligned, (*maps, 1.0, alpha, True, 4, *grads)
        gradient = laid_out((1, 64, 64, 64), dtype, last)
        layout = "last" if last else "planar"
        yield "channelwise_kl_scale_", f"uniform {layout}", True, (gradient, torch.empty(()))
        yield "channelwise_kl_backward", f"per row {layout}", True, (torch.empty(1, 64), gradient)


def dual_mask_calls(dtype: torch.dtype, brief: bool) -> Iterator[Call]:
    weights, number = (1.0,) * 6, torch.empty(1, dtype=torch.float64)
    for side in (512,) if brief else (512, 511):
        shape = (2, 1, side, side)
        z, z_orig, soft, blend = (torch.empty(shape, dtype=dtype) for _ in range(4))
        hard, levels = torch.empty(shape, dtype=torch.bool), torch.empty(shape, dtype=torch.uint8)
        calls = {
            "shared mask": (z, z_orig, hard, None, None, None, None, weights, None, 2),
            "one branch": (z, None, levels, None, soft, None, number, weights, 2, 0),
            "everything": (z, z_orig, soft, levels, soft, blend, number, weights, 1, 1),
        }
        for name, arguments in calls.items():
            yield "dual_mask", f"{side}x{side} {name}", side % 2 == 0, arguments
            branches = 1 if arguments[1] is None else 2
            sums = torch.empty((branches, 2, 5), dtype=torch.float64)
            grad = torch.empty(2 if arguments[-1] == 0 else ())
            backward = (grad, sums, *arguments, True, branches == 2)
            yield "dual_mask_backward", f"{side}x{side} {name}", side % 2 == 0, backward


def perturbation_calls(dtype: torch.dtype, brief: bool) -> Iterator[Call]:
    for side in (256,) if brief else (256, 255):
        tensors = [torch.empty((2, 3, side, side), dtype=dtype) for _ in range(4)]
        adv, image, noise, grad = tensors
        each = torch.empty(2, dtype=torch.float64)
        for l2 in (False, True):
            for eps in (None, each):
                limits = (0.1, eps, l2, 0.0, 1.0)
                label = f"{side}x{side} {'l2' if l2 else 'linf'}"
                label += "" if eps is None else " per sample"
                yield "clamp_project", label, side % 2 == 0, (image, noise, *limits)
                yield (
                    "clamp_project_backward",
                    label,
                    side % 2 == 0,
                    (grad, image, noise, *limits, True, True),
                )
                yield "pgd_step_", label, side % 2 == 0, (adv, grad, image, 0.1, eps, *limits)
                step = (adv, noise, grad, image, 0.1, eps, *limits[:2], 0.9, *limits[2:])
                yield "momentum_step_", label, side % 2 == 0, step


def image_calls(dtype: torch.dtype, brief: bool) -> Iterator[Call]:
    each = torch.empty(2, dtype=torch.float64)
    for last in (False, True):
        for bgr in (True, False):
            label = f"{'BGR' if bgr else 'RGB'}{' last' if last else ''}"
            images = torch.empty((2, 256, 256, 3), dtype=torch.uint8)
            yield "image_pack", label, True, (images, bgr, last, dtype)
            image, noise = (laid_out((2, 3, 256, 256), dtype, last) for _ in range(2))
            yield "image_unpack", label, True, (image, None, 0.0, None, False, bgr)
            yield "image_unpack", f"{label} bounded", True, (image, noise, 0.0, each, True, bgr)


def calls(dtype: torch.dtype, brief: bool) -> Iterator[Call]:
    for make in (kl_calls, dual_mask_calls, perturbation_calls, image_calls):
        yield from make(dtype, brief)


# --- what becomes of a kernel --------------------------------------------------------------------


def resources(cubin: bytes) -> dict[str, Any]:
    """Registers, stack, local memory, and the widths in bits of loads and stores."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(CUOBJDUMP), "-res-usage", "-sass", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    usage = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", text)
    if usage is None:
        raise RuntimeError(f"cuobjdump tells no resources: {text[:200]}")
    registers, stack, shared, local = map(int, usage.groups())
    widths = {"LDG": Counter[int](), "STG": Counter[int]()}
    for kind, rest in re.findall(r"\b(LDG|STG)((?:\.\w+)*)\s", text):
        named = re.search(r"\.(?:[US](8|16)|(64|128|256))(?:\.|$)", rest)
        widths[kind][int(named[1] or named[2]) if named else 32] += 1
    return {
        "registers": registers,
        "stack": stack,
        "local": local,
        "shared": shared,
        "spills": len(re.findall(r"\b(?:STL|LDL)\b", text)),
        "loads": dict(sorted(widths["LDG"].items())),
        "stores": dict(sorted(widths["STG"].items())),
    }


def occupancy(registers: int, warps: int) -> float:
    """Warps of a multiprocessor over its 64, as far as registers decide."""
    each = -(-registers * 32 // 256) * 256  # of a warp, in the units they are given in
    programs = min(REGISTERS // (each * warps), 64 // warps)
    return programs * warps / 64


def wide(row: dict[str, Any]) -> bool | None:
    """Whether memory is accessed 128 bits at a time; None where that is not asked for."""
    if not row["aligned"] or any(name in row["kernel"] for name in SMALL):
        return None
    return 128 in row["loads"] or 128 in row["stores"]


def wrong(row: dict[str, Any]) -> bool:
    return bool(row["spills"] or row["stack"] or row["local"] or row["wide"] is False)


def rows(
    dtypes: Sequence[str], architectures: Sequence[int], brief: bool = False
) -> list[dict[str, Any]]:
    """One row for every instance of a kernel; the first call that needs it names it."""
    device = Device()
    triton.runtime.driver.set_active(device)
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    current: dict[str, Any] = {}

    def compile_instead(launcher: Any, grid: tuple[int, ...]) -> Callable[..., None]:
        def compile_kernel(*arguments: Any, **options: Any) -> None:
            for architecture in architectures:
                device.architecture = architecture
                compiled = launcher.kernel.warmup(*arguments, grid=grid, **options)
                name, warps = launcher.kernel.fn.__name__, compiled.metadata.num_warps
                room = launcher.kernel.fn.__module__.split(".")[-2]
                key = (architecture, name, compiled.hash)
                if key in found:
                    continue
                row = current | {"room": room, "kernel": name, "architecture": architecture}
                row |= {"warps": warps} | resources(compiled.asm["cubin"])
                row["occupancy"] = occupancy(row["registers"], warps)
                flags = {k: v for k, v in options.items() if k != "num_warps"}
                row["wide"] = wide(row)
                found[key] = row | {"constants": flags}

        return compile_kernel

    original = triton_launch._Launcher.__getitem__
    triton_launch._Launcher.__getitem__ = compile_instead  # type: ignore[assignment,method-assign]
    try:
        for dtype in dtypes:
            for op, label, aligned, arguments in calls(getattr(torch, dtype), brief):
                current = {"op": op, "dtype": dtype, "case": label, "aligned": aligned}
                getattr(getattr(torch.ops, NAMESPACE), op).default(*arguments)
    finally:
        triton_launch._Launcher.__getitem__ = original  # type: ignore[method-assign]
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--brief", action="store_true", help="fewer sizes, all of them aligned")
    parser.add_argument("--architecture", nargs="+", type=int, default=list(ARCHITECTURES))
    parser.add_argument("--dtype", nargs="+", default=list(DTYPES))
    options = parser.parse_args()
    found = rows(options.dtype, options.architecture, options.brief)
    bad = sum(map(wrong, found))
    if options.json:
        print(json.dumps(found))
        sys.exit(min(bad, 1))
    for row in found:
        print(
            f"sm_{row['architecture']} {row['room']:15} {row['kernel']:24} {row['dtype']:9} "
            f"{row['case']:44} warps {row['warps']:2}  registers {row['registers']:3}  "
            f"stack {row['stack']}  spills {row['spills']}  occupancy {row['occupancy']:.2f}  "
            f"loads {row['loads']}  stores {row['stores']}"
        )
    print(f"{len(found)} instances, {bad} of them with spills, stack or narrow accesses")
    sys.exit(min(bad, 1))


if __name__ == "__main__":
    main()
