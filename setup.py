"""Builds the native library; everything else about the package stands in pyproject.toml.

csrc/*/host.cpp  torch-free host kernels, compiled once for each instruction set
csrc/**/*.cpp    all else: the torch side, on LibTorch's stable ABI: one library for torch >= 2.10
csrc/*/cuda.cu   the CUDA library, a file of its own (build_backend/cuda_library.py)

ANSM_FAST_CUDA=0|1 leaves out or asks for CUDA; ANSM_FAST_NATIVE=0 leaves out all native code.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_clib import build_clib

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "build_backend"))
import cuda_library  # noqa: E402

INSTRUCTION_SETS = {"baseline": []}
if platform.machine().lower() in {"x86_64", "amd64"}:
    INSTRUCTION_SETS["avx2"] = ["-mavx2", "-mfma", "-mf16c"]
    INSTRUCTION_SETS["avx512"] = [
        *INSTRUCTION_SETS["avx2"],
        *(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl")),
        "-mprefer-vector-width=512",
    ]
# Python's own flags often ask for debug information, ten times the library; the last word counts.
SMALL_COMPILE = ["-g0"]
SMALL_LINK = ["-Wl,-s"] if sys.platform == "linux" else []
HOST_FLAGS = [
    "-std=c++17",
    *SMALL_COMPILE,
    "-O3",
    "-fPIC",
    "-fopenmp-simd",
    "-fno-math-errno",
    "-fno-trapping-math",
    # The same bits from every compiler and instruction set: multiply_add says where to fuse.
    "-ffp-contract=off",
    "-fvisibility=hidden",
]
TORCH_FLAGS = [
    "-std=c++20",
    *SMALL_COMPILE,
    "-O2",
    "-fvisibility=hidden",
    "-DTORCH_STABLE_ONLY",
    "-DTORCH_TARGET_VERSION=0x020a000000000000",
]


def say(message: str) -> None:
    print(f"ansm_fast: {message}", file=sys.stderr, flush=True)


def compiler() -> str | None:
    """The C++ compiler's command, or None; CXX and then CC are honoured as setuptools does."""
    for candidate in (os.environ.get("CXX"), os.environ.get("CC"), "c++", "g++", "clang++"):
        if candidate and shutil.which(candidate.split()[0]):
            try:
                subprocess.run([*candidate.split(), "--version"], check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                return None
            return candidate
    return None


def reason_for_no_native_code() -> str | None:
    if os.environ.get("ANSM_FAST_NATIVE") == "0":
        return "ANSM_FAST_NATIVE=0"
    if not any(
        argument.startswith(("build", "bdist", "install", "develop", "editable"))
        for argument in sys.argv[1:]
    ):
        return "nothing is built by this command"
    try:
        import torch
    except ImportError:
        return "no torch in the build environment"
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 10):
        return f"torch {torch.__version__} has no stable ABI for extensions, 2.10 or newer has"
    if compiler() is None:
        return "no working C++ compiler"
    return None


def set_max_jobs() -> None:
    """One compiler for every 2 GiB of memory, unless MAX_JOBS says otherwise."""
    if "MAX_JOBS" not in os.environ:
        try:
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (ValueError, OSError):
            memory = 4 << 30
        os.environ["MAX_JOBS"] = str(max(1, min(os.cpu_count() or 1, memory >> 31)))


class BuildHostKernels(build_clib):
    """Object files of one source for several instruction sets need folders of their own."""

    def build_libraries(self, libraries):
        root = self.build_temp
        for library in libraries:
            self.build_temp = os.path.join(root, library[0])
            super().build_libraries([library])


def native() -> dict:
    import torch
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    cuda_library.check_if_forced()
    set_max_jobs()
    headers = [
        str(path) for folder in ("kernels", "csrc") for path in sorted((ROOT / folder).rglob("*.h"))
    ]
    sources = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "csrc").rglob("*.cpp"))]
    host_sources = [path for path in sources if Path(path).name == "host.cpp"]
    libraries = [
        (
            f"ansm_fast_{name}",
            {
                "sources": host_sources,
                "obj_deps": {"": [*headers, __file__]},  # the flags stand in this file
                "include_dirs": ["kernels", "csrc"],
                "macros": [("ANSM_FAST_ISA", name)],
                "cflags": [*HOST_FLAGS, *flags],
            },
        )
        for name, flags in INSTRUCTION_SETS.items()
    ]

    class BuildNative(BuildExtension):
        def run(self):
            folder = (ROOT if self.inplace else Path(self.build_lib)) / "ansm_fast"
            cuda, no_cuda_because = cuda_library.build_where_wanted(
                ROOT, folder / "_C_cuda.so", compiler() or "c++", int(os.environ["MAX_JOBS"]), say
            )
            self.run_command("build_clib")
            super().run()
            info = {
                "torch": torch.__version__,
                "python": platform.python_version(),
                "compiler": self._compiler_version(),
                "instruction_sets": list(INSTRUCTION_SETS),
                "host_flags": HOST_FLAGS,
                "cuda": cuda,
                "no_cuda_because": no_cuda_because,
            }
            target = folder / "_build_info.json"
            target.write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")

        @staticmethod
        def _compiler_version() -> str:
            command = (compiler() or "c++").split()
            shown = subprocess.run([*command, "--version"], capture_output=True, text=True)
            return shown.stdout.splitlines()[0] if shown.stdout else command[0]

    extension = CppExtension(
        "ansm_fast._C",
        [path for path in sources if path not in host_sources],
        include_dirs=[str(ROOT / "kernels"), str(ROOT / "csrc")],
        define_macros=[("ANSM_FAST_X86_VARIANTS", str(int("avx2" in INSTRUCTION_SETS)))],
        extra_compile_args={"cxx": TORCH_FLAGS},
        extra_link_args=SMALL_LINK,
        depends=[*headers, __file__],
        py_limited_api=True,
    )
    return {
        "libraries": libraries,
        "ext_modules": [extension],
        "cmdclass": {"build_clib": BuildHostKernels, "build_ext": BuildNative},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}},
    }


reason = reason_for_no_native_code()
if reason and reason != "nothing is built by this command":
    if cuda_library.is_forced():
        sys.exit(f"ansm_fast: {cuda_library.FORCED_BUT} {reason}")
    say(f"installing without native code ({reason}); the PyTorch reference will serve, slower")
packages = [
    ".".join(path.parent.relative_to(ROOT).parts)
    for folder in ("ansm_fast", "kernels")
    for path in sorted((ROOT / folder).rglob("__init__.py"))
]
packages = [f"ansm_fast.{name}" if name.startswith("kernels") else name for name in packages]
setup(packages=packages, **({} if reason else native()))
