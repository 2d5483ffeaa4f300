"""Builds the CUDA kernels as C++ that runs on the CPU.

    python -m tools.simt.build [plain|address|seen ...]

`library(variant)` gives the path of the torch library, whose ops stand in the namespace
`ansm_fast_simt`; `library(variant, "examples")` that of the harness's own test kernels. Only what
changed is compiled again, MAX_JOBS files at a time (1 unless set).

plain    as fast as it gets
address  AddressSanitizer and UndefinedBehaviorSanitizer
seen     every access of a kernel is seen: bounds, races, uninitialized words, traffic
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
NAMESPACE = "ansm_fast_simt"

COMMON = [
    "-std=c++20",
    # Version 5 confuses a header's lines with those of the file that includes it.
    "-gdwarf-4",
    "-g1",
    "-fPIC",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    # A library of its own variables, beside another one of the same source.
    "-fno-gnu-unique",
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",
    "-DANSM_FAST_SIMT",
    f"-DANSM_FAST_NAMESPACE={NAMESPACE}",
    f"-I{HERE / 'include'}",
    f"-I{ROOT / 'kernels'}",
    f"-I{ROOT / 'csrc'}",
]
SANITIZE = ["-fsanitize=address,undefined"]
VARIANTS = {
    "plain": ["-O2"],
    "address": [
        "-O1",
        *SANITIZE,
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
    ],
    "seen": ["-O2"],
}
# Of the files that hold kernels. Without these optimizations a vector is loaded as it is written,
# in one piece; with them the compiler would load its elements one by one where they are used.
SEEN = [
    "-O1",
    "-fno-tree-sra",
    "-fno-tree-fre",
    "-fsanitize=thread",
    "--param=tsan-instrument-func-entry-exit=0",
]


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CXX", "g++"))


@functools.cache
def torch_flags() -> tuple[list[str], list[str]]:
    """For the compiler and for the linker."""
    import torch

    home = Path(torch.__path__[0])
    compile_flags = [
        "-DTORCH_STABLE_ONLY",
        "-DTORCH_TARGET_VERSION=0x020a000000000000",
        f"-DANSM_FAST_TORCH={torch.__version__}",
        "-isystem",
        str(home / "include"),
    ]
    return compile_flags, [f"-L{home / 'lib'}", "-ltorch_cpu", "-lc10"]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)}\n{result.stdout}{result.stderr}")
    if result.stderr:
        print(result.stderr, file=sys.stderr)


def dependencies(rules: Path) -> list[Path]:
    """The project's files that a compiled file includes, of the compiler's `-MMD` rules."""
    words = rules.read_text().replace("\\\n", " ").split()
    return sorted({path for word in words[1:] if (path := Path(word).resolve()).is_file()})


def key_of(files: list[Path], command: list[str]) -> str:
    digest = hashlib.sha256(shlex.join(command).encode())
    for file in files:
        digest.update(str(file).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def compiled(source: Path, flags: list[str], folder: Path) -> Path:
    """The object file, compiled unless the one there is of the same text and flags."""
    out = folder / f"{source.parent.name}-{source.name}.o"
    rules, key = out.with_suffix(".d"), out.with_suffix(".key")
    command = [*compiler(), *flags, "-x", "c++", str(source)]
    if out.exists() and rules.exists() and key.exists():
        with contextlib.suppress(OSError):
            if key.read_text() == key_of(dependencies(rules), command):
                return out
    key.unlink(missing_ok=True)
    run([*command, "-MMD", "-MF", str(rules), "-c", "-o", str(out)])
    key.write_text(key_of(dependencies(rules), command))
    return out


def sources(what: str) -> list[Path]:
    """The files that hold kernels."""
    if what == "examples":
        return sorted((HERE / "examples").glob("*.cu"))
    return sorted((ROOT / "csrc").glob("*/cuda.cu"))


def library(variant: str = "plain", what: str = "ops", folder: Path | None = None) -> Path:
    """The library's path, built where it is missing or old; `what` is "ops" or "examples"."""
    folder = (folder or ROOT / "build" / "simt") / variant
    with locked(folder):
        flags = [*COMMON, *VARIANTS[variant]]
        torch_compile, torch_link = torch_flags() if what == "ops" else ([], [])
        # The harness first: what both it and the kernels have of the standard library's templates
        # is then linked from files whose accesses are not watched.
        work = [(source, flags) for source in sorted((HERE / "source").glob("*.cpp"))]
        seen = SEEN if variant == "seen" else []
        work += [(source, [*flags, *torch_compile, *seen]) for source in sources(what)]
        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", "1"))) as pool:
            objects = list(pool.map(lambda one: compiled(*one, folder), work))
        name = "ansm_fast_simt" if what == "ops" else "simt_examples"
        out = folder / f"lib{name}_{variant}.so"
        sanitize = SANITIZE if variant == "address" else []
        link = [*compiler(), "-shared", *sanitize, *map(str, objects), *torch_link, "-ldl"]
        key = out.with_suffix(".key")
        if not (out.exists() and key.exists() and key.read_text() == key_of(objects, link)):
            # A process that has the old one loaded keeps it.
            part = out.with_suffix(".part")
            run([*link, "-o", str(part)])
            part.replace(out)
            key.write_text(key_of(objects, link))
    return out


def library_with(kernels: Path, op: str, variant: str, folder: Path) -> Path:
    """The library with one op's kernels from another folder than the project's."""
    library(variant)
    torch_compile, torch_link = torch_flags()
    seen = SEEN if variant == "seen" else []
    flags = [f"-I{kernels}" if flag == f"-I{ROOT / 'kernels'}" else flag for flag in COMMON]
    flags += [*VARIANTS[variant], *torch_compile, *seen]
    name = f"{op}-cuda.cu.o"
    other = compiled(ROOT / "csrc" / op / "cuda.cu", flags, folder)
    ours = ROOT / "build" / "simt" / variant
    files = [*sorted((HERE / "source").glob("*.cpp")), *sources("ops")]
    objects = [f"{source.parent.name}-{source.name}.o" for source in files]
    paths = [str(other if each == name else ours / each) for each in objects]
    out = folder / "libplanted.so"
    sanitize = SANITIZE if variant == "address" else []
    run([*compiler(), "-shared", *sanitize, *paths, *torch_link, "-ldl", "-o", str(out)])
    return out


if __name__ == "__main__":
    for chosen in sys.argv[1:] or list(VARIANTS):
        print(library(chosen))
