"""Counts the instructions that the CUDA kernels take for an element, in nvcc's machine code.

    python -m tools.instructions

Writes docs/images/instructions.json, of which tools.pictures draws the roofline. Each kernel is
compiled as a function whose flags and sizes are constants (aligned rows, one gradient, a shared
bool mask, numbers for eps and alpha), so that the way which the picture shows is all that is left.
Then the instructions are counted that one thread has for its elements: those of its innermost loop
or, where it has none, all. Rare ways that stand outside of the kernel's own code do not count;
where a loop holds two ways of which a thread takes one, both do. Needs nvcc and nvdisasm, no GPU.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from build_backend import cuda_library
from tools import compile_report

ROOT = Path(__file__).resolve().parents[1]
COUNTS = ROOT / "docs" / "images" / "instructions.json"
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
#include "channelwise_kl/cuda.cuh"
#include "dual_mask/cuda.cuh"
#include "image_pack/cuda.cuh"
#include "perturbation/cuda.cuh"
#pragma pop_macro("__global__")
using namespace ansm_fast;
using namespace ansm_fast::gpu;
namespace kl = gpu::channelwise_kl;
#define KERNEL extern "C" __global__ void __attribute__((launch_bounds(256)))
"""
LAYER = """
  kl::Layers layers;
  layers.count = 1;
  layers.blocks = 1 << 10;
  layers.kl = numbers;
  layers.statistics = layers.partials = numbers;
  layers.rows = layers.chunks = 1 << 20;
  kl::Layer& layer = layers.layer[0];
  layer.first = a;
  layer.second = b;
  layer.grad_first = c;
  layer.samples = 8;
  layer.channels = 256;
  layer.aligned = true;
  layer.pixels = {pixels};
  {more}
"""
COLUMNS = "layer.channels_last = true; layer.lanes = 32; layer.chunks = 16;"
SPLIT = "layer.chunks = 16;"
SAMPLES = "  const Samples samples{1, 1 << 23, true};\n"
SHARED = "  const Samples samples{1, 1 << 23, true};\n"
FIELDS = """
  const ElementType type = TypeOf<T>::value;
  const Field fa{a, type}, fb{b, type}, fc{c, type}, fd{d, type};
"""
INPUTS = """
  ansm_fast::dual_mask::Inputs in;
  in.branches = 2;
  in.logits[0] = fa;
  in.logits[1] = fb;
  in.mask[0] = {bytes, ElementType::kBool};
  gpu::dual_mask::Batch batch;
  batch.sums = numbers;
  batch.samples = 8;
  batch.elements = 1 << 20;
  batch.pos_weight.number = 1;
"""
STEP = """
  namespace p = gpu::perturbation;
  p::Range<accumulate_t<T>> range{0, 1};
  const SampleNumber alpha{0.01}, eps{0.03};
  p::Step step;
  step.adv = fa;
  step.grad = fb;
  step.image = fc;
  step.decay = 0.9;
"""


@dataclass(frozen=True)
class Body:
    """``elements`` of a thread, each time through the loop or in all, by a vector's width."""

    code: str
    elements: Callable[[int], float]
    loop: bool = False


def kl(
    pixels: int, more: str, call: str, elements: Callable[[int], float], loop: bool = False
) -> Body:
    code = LAYER.replace("{pixels}", str(pixels)).replace("{more}", more)
    return Body(f"{code}  kl::{call}(layers);\n", elements, loop)


def perturbation(
    call: str,
    elements: Callable[[int], float] = lambda width: width,
    before: str = SHARED,
    loop: bool = False,
) -> Body:
    return Body(FIELDS + STEP + before + f"  p::{call};\n", elements, loop)


MOMENTUM = SAMPLES + "  step.momentum = fd;\n"
SCALES = "static_cast<p::StepScale*>(static_cast<void*>(numbers))"
BODIES = {
    "rows_warp": kl(512, "", "rows_warp<T, 16>", lambda width: 16),
    "rows_block": kl(16384, "", "rows_block<T, 16>", lambda width: 16),
    "split_statistics": kl(1 << 16, SPLIT, "split_statistics<T>", lambda width: 16),
    "split_gradients": kl(1 << 16, SPLIT, "split_gradients<T>", lambda width: 8, True),
    "column_statistics": kl(
        1 << 12,
        COLUMNS,
        "column_statistics<T, V>",
        lambda width: width * (2 if width == 8 else 4),
        True,
    ),
    "column_gradients": kl(
        1 << 12,
        COLUMNS,
        "column_gradients<T, V>",
        lambda width: width * (2 if width == 8 else 4),
        True,
    ),
    "scale_rows": Body(
        LAYER.replace("{pixels}", "4096").replace("{more}", "")
        + "  kl::Scaling io;\n  io.layer = layer;\n  io.factor = numbers;\n"
        "  kl::scale_rows<T, V>(io);\n",
        lambda width: width * 4,
    ),
    "forward_kernel": Body(
        # Not a constant: the kernel always looks whether a pixel counts.
        FIELDS + INPUTS + SAMPLES + "  in.has_ignore = !numbers;\n"
        "  gpu::dual_mask::forward_kernel<T, V>"
        "(in, batch.pos_weight, false, samples, numbers);\n",
        lambda width: width,
        True,
    ),
    "backward_kernel": Body(
        FIELDS + INPUTS + SAMPLES + "  gpu::dual_mask::Gradient gradient;\n"
        "  gradient.grad_output = numbers;\n  gradient.out[0] = fc;\n  gradient.out[1] = fd;\n"
        "  gpu::dual_mask::backward_kernel<T, V>(in, batch, samples, gradient);\n",
        lambda width: width / 2.0,  # the innermost loop takes one branch
        True,
    ),
    "project_kernel": perturbation(
        "project_kernel<T>(p::Projection{fa, fb, fc}, samples, eps, range, nullptr)"
    ),
    "project_backward_kernel": perturbation(
        "project_backward_kernel<T>(p::ProjectionGradient{fa, fb, fc, fd, {bytes, type}}, samples, "
        "eps, range, nullptr)"
    ),
    "step_kernel": perturbation("step_kernel<T>(step, true, samples, alpha, eps, range, nullptr)"),
    "step_kernel, momentum": perturbation(
        f"step_kernel<T>(step, true, samples, alpha, eps, range, {SCALES})", before=MOMENTUM
    ),
    "field_sum_kernel": perturbation(
        "field_sum_kernel<T>(a, p::FieldSum::kAbsolute, samples, numbers)",
        lambda width: 16,
        SAMPLES,
    ),
    "step_kernel, l2": perturbation(
        f"step_kernel<T>(step, false, samples, alpha, eps, range, {SCALES})", before=SAMPLES
    ),
    "step_sums_kernel": perturbation(
        "step_sums_kernel<T>(step, samples, numbers)", lambda width: 16, SAMPLES
    ),
    "pack_kernel": Body(
        FIELDS
        + SAMPLES
        + "  ansm_fast::image_pack::Pack io;\n  io.bytes = bytes;\n  io.image = fa;\n"
        "  io.pixels = samples.elements;\n  gpu::image_pack::pack_kernel<T>(io, samples);\n",
        lambda width: width / 3.0,  # pixels: the innermost loop takes one channel
        True,
    ),
    "unpack_kernel": Body(
        FIELDS
        + SAMPLES
        + "  ansm_fast::image_pack::Unpack io;\n  io.bytes = bytes;\n  io.image = fa;\n"
        "  io.perturbation = fb;\n  io.pixels = samples.elements;\n  io.bounded = true;\n"
        "  gpu::image_pack::unpack_kernel<T>(io, SampleNumber{0.03}, samples);\n",
        lambda width: width / 3.0,
        True,
    ),
}
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


def count() -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    nvcc = cuda_library.find_toolkit().nvcc
    found: dict = {name: {} for name in BODIES}
    with tempfile.TemporaryDirectory() as folder:
        for dtype, (element, width) in TYPES.items():
            source = Path(folder) / f"{dtype}.cu"
            text = BEGIN
            for number, body in enumerate(BODIES.values()):
                text += (
                    f"KERNEL kernel{number}(void* a, void* b, void* c, void* d, uint8_t* bytes, "
                    f"double* numbers) {{\n  using T = {element};\n  constexpr int V = {width};\n"
                    f"{body.code}}}\n"
                )
            source.write_text(text, encoding="utf-8")
            for device, architecture in ARCHITECTURES.items():
                cubin = source.with_suffix(f".{architecture}.cubin")
                compile_report.output(
                    nvcc, *compile_report.FLAGS, f"-arch=sm_{architecture}", "-cubin", "-w", "-I",
                    ROOT / "kernels", source, "-o", cubin,
                )  # fmt: skip
                code = compile_report.output(compile_report.tool("nvdisasm", nvcc), "-c", cubin)
                kernels = dict(compile_report.per_kernel(code, r"^\.text\.(\w+):$"))
                for number, (name, body) in enumerate(BODIES.items()):
                    elements = body.elements(width)
                    kinds = [
                        kind_of(i) for i in instructions_of(kernels[f"kernel{number}"], body.loop)
                    ]
                    found[name].setdefault(dtype, {})[device] = {
                        kind: round(kinds.count(kind) / elements, 2) for kind in KINDS
                    }
    return found


if __name__ == "__main__":
    COUNTS.write_text(json.dumps(count(), indent=1) + "\n", encoding="utf-8")
