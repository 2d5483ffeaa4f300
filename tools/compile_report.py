"""Compiles every op's cuda.cuh alone and reports what its kernels take of a GPU.

    python -m tools.compile_report [--update] [--ops OP ...]

For sm_80, sm_90 and sm_100: registers, spills, stack, shared memory, occupancy in theory, and the
128-bit loads and stores of global memory in the machine code. The table is compared with the
committed one, kernels/<op>/resources.md. It fails where a kernel spills or has a stack frame, takes
clearly more registers, or has fewer 128-bit accesses than before; --update rewrites the tables.
Needs nvcc, and cuobjdump and nvdisasm from the toolkit or from Triton's wheel; no torch, no GPU.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ansm_fast.images.atomic import write_text
from build_backend import cuda_library
from tools import commands
from tools.ops import KERNELS

ARCHITECTURES = (80, 90, 100)
SHARED_PER_MULTIPROCESSOR = {80: 164 << 10, 90: 228 << 10, 100: 228 << 10}
WARPS, BLOCKS, REGISTERS = 64, 32, 1 << 16  # of one multiprocessor; the three agree
REGISTER_UNIT, WARP_UNIT, SHARED_UNIT, SHARED_RESERVED = 256, 4, 128, 1 << 10
# A newer ptxas of the same release may move a few; more is a change of the kernel.
REGISTER_TOLERANCE = 4
FLAGS = [flag for flag in cuda_library.FLAGS if not flag.startswith(("-D", "-Xcompiler"))]
HEADER = """# What the kernels of {op} take of a GPU

`cuda.cuh` compiled alone with nvcc {version}; where the architectures differ, the
numbers are those of {architectures}. No kernel spills registers or has a stack
frame. Block is the largest that the kernel is compiled for. Occupancy is the share of a
multiprocessor's warps that registers and static shared memory allow for blocks of that size, in
theory: nothing here was measured on a GPU. Loads and stores are instructions for global memory,
the 128-bit ones of all.

Made by `python -m tools.compile_report --update`; without `--update` it compares.
"""
COLUMNS = "| kernel | block | registers | shared | occupancy | 128-bit loads | 128-bit stores |"


@dataclass
class Kernel:
    registers: int = 0
    shared: int = 0
    block: int = 0
    memory: str = ""  # spills and stack, "" where there are none
    wide_loads: int = 0
    loads: int = 0
    wide_stores: int = 0
    stores: int = 0

    def occupancy(self, architecture: int) -> int:
        """Per cent of the warps that fit, by CUDA's rules for allocation."""
        if not self.block:
            return 0
        warps = -(-self.block // 32)
        per_warp = -(-self.registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
        by_registers = REGISTERS // per_warp // WARP_UNIT * WARP_UNIT // warps
        shared = -(-(self.shared + SHARED_RESERVED) // SHARED_UNIT) * SHARED_UNIT
        by_shared = SHARED_PER_MULTIPROCESSOR[architecture] // shared
        blocks = min(BLOCKS, WARPS // warps, by_registers, by_shared)
        return round(100 * blocks * warps / WARPS)


def tool(name: str, nvcc: Path) -> str:
    """cuobjdump or nvdisasm: beside nvcc, on the PATH, or in Triton's wheel."""
    places = [str(nvcc.parent), os.environ.get("PATH", "")]
    triton = importlib.util.find_spec("triton")
    if triton and triton.origin:
        places.append(str(Path(triton.origin).parent / "backends" / "nvidia" / "bin"))
    for place in places:
        found = shutil.which(name, path=place)
        if found:
            return found
    sys.exit(f"compile_report: no {name} in the CUDA toolkit nor in Triton's wheel")


def output(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"compile_report: {command[0]} fails:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def source_of(op: str) -> str:
    """A file that refers to the op's launchers, which instantiate its kernels."""
    launchers = []
    for path in sorted((KERNELS / op).glob("*.cuh")):
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(
            r"^(template\s*<.*>\s*)?(?:inline )?void (launch_\w+)\(", text, re.M
        ):
            if not match[1]:
                launchers.append(f"ansm_fast::gpu::{op}::{match[2]}")
    if not launchers:
        sys.exit(f"compile_report: kernels/{op}/cuda.cuh has no launcher")
    uses = ",\n".join(f"    reinterpret_cast<void*>(&{name})" for name in dict.fromkeys(launchers))
    return f'#include "{op}/cuda.cuh"\nextern void* const launchers[] = {{\n{uses}}};\n'


def per_kernel(text: str, start: str) -> Iterator[tuple[str, str]]:
    """The parts of a tool's output that begin with ``start``, whose group is a kernel's name."""
    parts = re.split(start, text, flags=re.M)
    yield from zip(parts[1::2], parts[2::2], strict=True)


def compile_op(op: str, architecture: int, nvcc: Path, folder: Path) -> dict[str, Kernel]:
    """The op's kernels by their mangled names."""
    source, cubin = folder / f"{op}.cu", folder / f"{op}.{architecture}.cubin"
    said = output(
        nvcc, *FLAGS, f"-arch=sm_{architecture}", "-cubin", "-Xptxas", "-v",
        "-I", KERNELS, source, "-o", cubin,
    )  # fmt: skip
    kernels: dict[str, Kernel] = {}
    # A function that was not inlined comes with its caller and may have a stack of its own.
    for name, text in per_kernel(said, r"Compiling entry function '(\w+)'"):
        kernel = kernels[name] = Kernel()
        used = re.search(r"Used (\d+) registers", text)
        shared = re.search(r"(\d+) bytes smem", text)
        kernel.registers = int(used[1]) if used else 0
        kernel.shared = int(shared[1]) if shared else 0
        numbers = re.findall(r"(\d+) bytes (stack frame|spill stores|spill loads)", text)
        kernel.memory = ", ".join(f"{size} bytes {what}" for size, what in numbers if int(size))
    elf = output(tool("cuobjdump", nvcc), "-elf", cubin)
    for name, text in per_kernel(elf, r"^\.nv\.info\.(\w+)$"):
        block = re.search(
            r"EIATTR_MAX_THREADS\s+Format:.*\s+Value:\s+(0x\w+) (0x\w+) (0x\w+)", text
        )
        if block and name in kernels:
            kernels[name].block = int(block[1], 16) * int(block[2], 16) * int(block[3], 16)
    for name, text in per_kernel(output(tool("nvdisasm", nvcc), "-c", cubin), r"^\.text\.(\w+):$"):
        if name in kernels:
            kernel, code = kernels[name], re.sub(r"^//-{5,}.*", "", text, flags=re.M)
            for kind, modifiers in re.findall(r"\s(LDG?|STG?)\.E\b((?:\.\w+)*)\s", code):
                which = "loads" if kind.startswith("LD") else "stores"
                wide = {"128", "256"} & set(modifiers.split("."))
                for field in (which, f"wide_{which}") if wide else (which,):
                    setattr(kernel, field, getattr(kernel, field) + 1)
    if not kernels:
        sys.exit(f"compile_report: kernels/{op} gives no kernel for sm_{architecture}")
    return kernels


def readable(names: list[str], op: str) -> dict[str, str]:
    """Mangled names to what the source calls them, without namespaces and parameters."""
    shown = {}
    for name, text in zip(names, output("c++filt", *names).splitlines(), strict=True):
        depth = 0
        for position, character in enumerate(text):
            depth += {"<": 1, ">": -1}.get(character, 0)
            if character == "(" and depth == 0:  # the parameters, which a template writes out
                text = text[:position].removeprefix("void ")
                break
        shown[name] = re.sub(rf"ansm_fast::(gpu::({op}::)?)?", "", text)
    return shown


Kernels = dict[str, dict[int, Kernel]]  # by name and architecture


def path_of(op: str) -> Path:
    return KERNELS / op / "resources.md"


def joined(values: list) -> str:
    return str(values[0]) if len(set(values)) == 1 else " / ".join(map(str, values))


def row(name: str, by_architecture: dict[int, Kernel]) -> str:
    kernels = list(by_architecture.values())
    cells = [
        f"`{name}`",
        joined([kernel.block or "any" for kernel in kernels]),
        joined([kernel.registers for kernel in kernels]),
        joined([kernel.shared for kernel in kernels]),
        joined([f"{k.occupancy(a)} %" if k.block else "–" for a, k in by_architecture.items()]),
        joined([f"{kernel.wide_loads} of {kernel.loads}" for kernel in kernels]),
        joined([f"{kernel.wide_stores} of {kernel.stores}" for kernel in kernels]),
    ]
    return f"| {' | '.join(cells)} |"


def table_of(op: str, kernels: Kernels, version: str) -> str:
    shown = " / ".join(f"sm_{architecture}" for architecture in ARCHITECTURES)
    lines = [HEADER.format(op=op, version=version, architectures=shown)]
    lines += [COLUMNS, re.sub(r"[^|]+", "---", COLUMNS)]
    lines += [row(name, found) for name, found in sorted(kernels.items())]
    return "\n".join(lines) + "\n"


def read_table(text: str) -> dict[str, list[str]]:
    """The cells of every row, by kernel."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {name.strip("`"): [cell.strip() for cell in cells] for name, *cells in rows}


def numbers_of(cell: str) -> list[int]:
    """One number for each architecture: the first of each part between slashes."""
    values = [int(re.match(r"\d+", part.strip())[0]) for part in cell.split("/")]  # type: ignore[index]
    return values if len(values) > 1 else values * len(ARCHITECTURES)


def worse(now: dict, before: dict, same_compiler: bool) -> list[str]:
    """What became worse than in the committed table, or differs in which kernels there are."""
    found = []
    for name in now.keys() | before.keys():
        if name not in now or name not in before:
            found.append(f"{name} is {'not in the table' if name in now else 'no longer there'}")
            continue
        _, registers, _, _, *wide = now[name]
        _, registers_before, _, _, *wide_before = before[name]
        more = map(lambda a, b: a - b, numbers_of(registers), numbers_of(registers_before))
        if same_compiler and max(more) > REGISTER_TOLERANCE:
            found.append(f"{name}: {registers} registers, {registers_before} before")
        for what, cell, cell_before in zip(("loads", "stores"), wide, wide_before, strict=True):
            pairs = zip(numbers_of(cell), numbers_of(cell_before), strict=True)
            if any(a < b if same_compiler else a == 0 < b for a, b in pairs):
                found.append(f"{name}: {cell} {what} are 128-bit, {cell_before} before")
    return sorted(found)


def compiled(ops: list[str], toolkit: cuda_library.Toolkit) -> dict[str, Kernels]:
    """Every op's kernels, by what the source calls them, on every architecture."""
    results: dict[str, Kernels] = {op: {} for op in ops}
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(os.cpu_count()) as pool:
        folder = Path(name)
        for op in ops:
            (folder / f"{op}.cu").write_text(source_of(op), encoding="utf-8")
        jobs = {
            (op, architecture): pool.submit(compile_op, op, architecture, toolkit.nvcc, folder)
            for op in ops
            for architecture in ARCHITECTURES
        }
        for (op, architecture), job in jobs.items():
            kernels = job.result()
            shown = readable(list(kernels), op)
            for mangled, kernel in kernels.items():
                results[op].setdefault(shown[mangled], {})[architecture] = kernel
    return results


def spilling(results: dict[str, Kernels]) -> list[str]:
    return [
        f"{op}::{name} on sm_{architecture}: {kernel.memory}"
        for op, kernels in results.items()
        for name, found in kernels.items()
        for architecture, kernel in found.items()
        if kernel.memory
    ]


def worse_than_committed(results: dict[str, Kernels], version: str) -> list[str]:
    """What is worse than in the committed tables."""
    found = []
    for op, kernels in results.items():
        path = path_of(op)
        if not path.is_file():
            found.append(f"{op}: there is no {path.name} to compare with; --update writes it")
            continue
        text = path.read_text(encoding="utf-8")
        now = read_table(table_of(op, kernels, version))
        lines = worse(now, read_table(text), f"nvcc {version};" in text)
        found += [f"{op}::{line}" for line in lines]
    return found


def main() -> None:
    parser = commands.parser_of(__doc__)
    commands.add_ops(parser)
    parser.add_argument("--update", action="store_true", help="rewrite the tables")
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        toolkit = cuda_library.find_toolkit()
    except cuda_library.CannotBuild as error:
        sys.exit(f"compile_report: {error}")
    results = compiled(commands.chosen_ops(parser, arguments.ops), toolkit)
    tables = {op: table_of(op, kernels, toolkit.version) for op, kernels in results.items()}
    print("\n".join(tables.values()))
    count = sum(map(len, results.values()))
    took = time.monotonic() - started
    print(f"{count} kernels for {len(ARCHITECTURES)} architectures in {took:.0f} s", flush=True)
    bad = spilling(results)
    if arguments.update:
        for op, table in tables.items():
            write_text(path_of(op), table)
    else:
        bad += worse_than_committed(results, toolkit.version)
    if bad:
        sys.exit("compile_report: " + "\ncompile_report: ".join(bad))


if __name__ == "__main__":
    main()
