"""Every instance of every Triton kernel compiled for devices that need not be there.

python -m tools.triton.compile_report [--json] [--quick] [--ops NAME ...]
    [--architecture 80 90 100] [--dtype ...]

The ops are called on tensors of real sizes, and what they would launch is compiled as a launch
would: with the same specializations. Registers, stack and local memory come from the cubin, the
widths of accesses to global memory from its machine code. A row an instance, and an exit status of
1 where one spills or has a stack, or where one makes no access of 128 bits though rows start
aligned. Not for the process that interprets kernels.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)

import torch
import triton
from triton.backends.compiler import GPUTarget

from ansm_fast.ops import triton_launch
from ansm_fast.ops.discovery import define_ops
from ansm_fast.ops.triton import NAMESPACE
from tools import commands
from tools.cases import compiled_calls, operators

ARCHITECTURES = (80, 90, 100)
DTYPES = ("float32", "bfloat16", "float16", "float64")
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
REGISTERS = 65536  # of one multiprocessor
# Kernels that pass over a few numbers for each row or sample, whatever their alignment.
SMALL = ("combine", "sum_kernel", "scales_kernel", "shrink", "radial")

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
    dtypes: Sequence[str], architectures: Sequence[int], brief: bool = False,
    only: Sequence[str] = (),
) -> list[dict[str, Any]]:  # fmt: skip
    """One row for every instance of a kernel; the first call that needs it names it."""
    device = Device()
    triton.runtime.driver.set_active(device)
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    current: dict[str, Any] = {}

    def compile_instead(launcher: Any, grid: tuple[int, ...]) -> Callable[..., None]:
        def compile_kernel(*arguments: Any, **options: Any) -> None:
            for architecture in current["architectures"]:
                device.architecture = architecture
                compiled = launcher.kernel.warmup(*arguments, grid=grid, **options)
                name, warps = launcher.kernel.fn.__name__, compiled.metadata.num_warps
                folder = launcher.kernel.fn.__module__.split(".")[-2]
                key = (architecture, name, compiled.hash)
                if key in found:
                    continue
                row = {k: v for k, v in current.items() if k != "architectures"}
                row |= {"folder": folder, "kernel": name, "architecture": architecture}
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
            for call in compiled_calls(getattr(torch, dtype), brief):
                if only and call.op not in only:
                    continue
                newest, oldest = architectures[-1:], architectures[:1]
                few = newest if dtype != dtypes[0] or newest == oldest else [*oldest, *newest]
                current = {
                    "op": call.op, "dtype": dtype, "case": call.label, "aligned": call.aligned,
                    "architectures": few if brief else architectures,
                }  # fmt: skip
                getattr(getattr(torch.ops, NAMESPACE), call.op).default(*call.arguments)
    finally:
        triton_launch._Launcher.__getitem__ = original  # type: ignore[method-assign]
    return list(found.values())


def main() -> None:
    parser = commands.parser_of(__doc__)
    parser.add_argument("--json", action="store_true")
    quick = (
        "fewer sizes, two dtypes, the first for the oldest and newest GPUs, the second for these"
    )
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--architecture", nargs="+", type=int, default=list(ARCHITECTURES))
    parser.add_argument("--dtype", nargs="+", choices=DTYPES)
    commands.add_ops(parser)
    options = parser.parse_args()
    found = rows(
        options.dtype or DTYPES[: 2 if options.quick else None], options.architecture,
        options.quick, commands.chosen(parser, options.ops, operators()),
    )  # fmt: skip
    bad = sum(map(wrong, found))
    if options.json:
        print(json.dumps(found))
        sys.exit(min(bad, 1))
    for row in found:
        print(
            f"sm_{row['architecture']} {row['folder']:15} {row['kernel']:24} {row['dtype']:9} "
            f"{row['case']:44} warps {row['warps']:2}  registers {row['registers']:3}  "
            f"stack {row['stack']}  spills {row['spills']}  occupancy {row['occupancy']:.2f}  "
            f"loads {row['loads']}  stores {row['stores']}"
        )
    print(f"{len(found)} instances, {bad} of them with spills, stack or narrow accesses")
    sys.exit(min(bad, 1))


if __name__ == "__main__":
    main()
