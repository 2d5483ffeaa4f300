"""Counts the instructions that the CUDA kernels take for an element, in nvcc's machine code.

    python -m tools.instructions [--ops OP ...]

Writes kernels/<op>/instructions.json, of which tools.pictures draws the roofline. Each kernel of
launches.yaml is compiled as a function whose flags and sizes are constants (aligned rows, one
gradient, a shared bool mask, numbers for eps and alpha), so that the variant which the picture
shows is all that is left. Then the instructions are counted that one thread has for its elements:
those of its innermost loop or, where it has none, all. Rare branches that stand outside of the
kernel's own code do not count; where a loop holds two branches of which a thread takes one, both
do. Needs nvcc and nvdisasm, no GPU.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from build_backend import cuda_library
from tools import commands, compile_report
from tools.ops import KERNELS, launches
from tools.results import write_json

ARCHITECTURES = {"A100": 80, "H100": 90}
# The kernels become functions of the kernels below, and nothing is launched.
BEGIN = """
#include "common/cuda.cuh"
#undef ANSM_FAST_LAUNCH
#define ANSM_FAST_LAUNCH(...)
#undef __launch_bounds__
#define __launch_bounds__(...)
#pragma push_macro("__global__")
#undef __global__
#define __global__ __device__ __forceinline__
struct Index {
  unsigned x, y, z;
};
#define blockIdx Index{3, 0, 0}
#define gridDim Index{1 << 13, 1, 1}
#include "OP/cuda.cuh"
#pragma pop_macro("__global__")
using namespace ansm_fast;
using namespace ansm_fast::gpu;
#define KERNEL extern "C" __global__ void __attribute__((launch_bounds(256)))
"""
# Element type, and elements of a vector of 16 bytes.
TYPES = {"float32": ("float", 4), "bfloat16": ("BFloat16", 8)}

KINDS = ("float32", "compare", "float64", "special", "other")


def kind_of(instruction: str) -> str:
    """The unit of the multiprocessor that takes an instruction, as far as the model tells."""
    name = instruction.split(".")[0]
    if name in {"MUFU", "I2F", "I2FP", "F2F", "F2I", "I2I"}:
        return "special"
    if name in {"DADD", "DMUL", "DFMA", "DSETP", "DMNMX"}:
        return "float64"
    if name in {"FADD", "FMUL", "FFMA"}:
        return "float32"
    if name in {"FMNMX", "FSETP", "FSEL", "FSET"}:
        return "compare"
    return "other"


def instructions_of(code: str, loop: bool) -> list[str]:
    """The instructions of a kernel, or those of its innermost loop with the most arithmetic."""
    code = re.split(r"^\$__internal", code, flags=re.M)[0]  # functions that are called
    names: list[str] = []
    labels: dict[str, int] = {}
    loops: list[tuple[int, int]] = []
    for line in code.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(names)
        elif found := re.match(r"\s+/\*\w+\*/\s+(?:@!?U?P\w+ )?([A-Z]\S*)(.*)", line):
            target = re.search(r"\.L_x_\d+", found[2])
            if found[1].startswith("BRA") and target and target[0] in labels:
                loops.append((labels[target[0]], len(names)))
            names.append(found[1])
    if loop:
        inner = [
            a for a in loops if not any(a[0] <= b[0] and b[1] <= a[1] and a != b for b in loops)
        ]
        bodies = [names[begin : end + 1] for begin, end in inner]
        names = max(bodies, key=lambda body: sum(kind_of(name) != "other" for name in body))
    return [name for name in names if name != "NOP"]


def source_of(op: str, dtype: str) -> str:
    element, width = TYPES[dtype]
    described = launches(op)
    kernels = [
        f"KERNEL kernel{number}(void* a, void* b, void* c, void* d, uint8_t* bytes, "
        f"double* numbers) {{\n  using T = {element};\n  constexpr int V = {width};\n"
        f"{described['begin']}{kernel['code']}}}\n"
        for number, kernel in enumerate(described["counted"])
    ]
    return BEGIN.replace("OP", op) + "".join(kernels)


def count(op: str, nvcc: Path) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """{kernel: {dtype: {GPU: {kind of instruction: how many for an element}}}}."""
    counted = launches(op)["counted"]
    found: dict = {kernel["kernel"]: {} for kernel in counted}
    with tempfile.TemporaryDirectory() as folder:
        for dtype in TYPES:
            source = Path(folder) / f"{dtype}.cu"
            source.write_text(source_of(op, dtype), encoding="utf-8")
            for device, architecture in ARCHITECTURES.items():
                cubin = source.with_suffix(f".{architecture}.cubin")
                compile_report.output(
                    nvcc, *compile_report.FLAGS, f"-arch=sm_{architecture}", "-cubin", "-w", "-I",
                    KERNELS, source, "-o", cubin,
                )  # fmt: skip
                code = compile_report.output(compile_report.tool("nvdisasm", nvcc), "-c", cubin)
                kernels = dict(compile_report.per_kernel(code, r"^\.text\.(\w+):$"))
                for number, kernel in enumerate(counted):
                    names = instructions_of(kernels[f"kernel{number}"], kernel.get("loop", False))
                    kinds = [kind_of(name) for name in names]
                    found[kernel["kernel"]].setdefault(dtype, {})[device] = {
                        kind: round(kinds.count(kind) / kernel["elements"][dtype], 2)
                        for kind in KINDS
                    }
    return found


def main() -> None:
    nvcc = cuda_library.find_toolkit().nvcc
    for op in commands.ops_of(__doc__):
        if launches(op).get("counted"):
            path = KERNELS / op / "instructions.json"
            write_json(path, count(op, nvcc))


if __name__ == "__main__":
    main()
