"""Builds ``ansm_fast/_C_cuda.so`` with nvcc, under any torch: CUDA or not, it needs only headers.

``CUDAExtension`` refuses to work under a CPU-only torch. The sources keep to LibTorch's stable ABI,
so that nvcc alone is enough, and neither a GPU nor a driver is needed for building or linking.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Later minors of a major run the code of earlier ones; these differ enough to have their own.
DEFAULT_ARCHITECTURES = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
# As torch.utils.cpp_extension names them.
NAMED_ARCHITECTURES = {
    "Volta+Tegra": "7.2",
    "Volta": "7.0+PTX",
    "Turing": "7.5+PTX",
    "Ampere+Tegra": "8.7",
    "Ampere": "8.0;8.6+PTX",
    "Ada": "8.9+PTX",
    "Hopper": "9.0+PTX",
    "Blackwell+Tegra": "11.0",
    "Blackwell": "10.0;10.3;12.0;12.1+PTX",
}
FLAGS = [
    "-std=c++20",
    "-O3",
    # Arithmetic as written, as on the host: fma stands where it is wanted.
    "-fmad=false",
    "-DUSE_CUDA",
    "-DTORCH_STABLE_ONLY",
    "-DTORCH_TARGET_VERSION=0x020a000000000000",
    "-Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off",
]
# What the library takes from libtorch_cuda.so. The link runs against a stub that defines these, so
# that it names libtorch_cuda.so as needed and any other undefined symbol is an error at once.
FROM_TORCH_CUDA = (
    "aoti_torch_get_current_cuda_stream",
    "torch_c10_cuda_check_msg",
    "torch_c10_cuda_free_error_msg",
)
FORCED_BUT = "ANSM_FAST_CUDA=1 asks for the CUDA library, but"
NINJA_FILE = """ninja_required_version = 1.5
nvcc = {nvcc}
flags = {flags}
rule compile
  command = $nvcc $flags -MD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
  description = nvcc $in
rule stub
  command = {compiler} -shared -fPIC -Wl,-soname,libtorch_cuda.so $in -o $out
  description = stub of libtorch_cuda.so
rule link
  command = $nvcc {link} $in -o $out {libraries}
  description = link $out
"""


class CannotBuild(Exception):
    """Why there will be no CUDA library, in one line."""


def is_forced() -> bool:
    return os.environ.get("ANSM_FAST_CUDA", "") not in {"", "0"}


def reason_not_to_try() -> str | None:
    """One that was asked for is always tried, else one that this environment's torch can load."""
    import torch

    if is_forced():
        return None
    if os.environ.get("ANSM_FAST_CUDA") == "0":
        return "ANSM_FAST_CUDA=0 left it out"
    if torch.version.cuda is None:
        return f"the torch that it was installed with, {torch.__version__}, has no CUDA"
    return None


def check_if_forced() -> None:
    """Exit before anything is compiled if what was asked for cannot be built."""
    if is_forced():
        try:
            chosen_architectures(find_toolkit().architectures, lambda _: None)
            find_ninja()
        except CannotBuild as error:
            sys.exit(f"ansm_fast: {FORCED_BUT} {error}")


def build_where_wanted(
    root: Path, target: Path, compiler: str, jobs: int, say
) -> tuple[dict | None, str | None]:
    """The CUDA library's build information, or why there is none; exits if one was asked for."""
    target.unlink(missing_ok=True)  # of an earlier build
    reason = reason_not_to_try()
    if reason:
        return None, reason
    try:
        return build(root, target, compiler, jobs, say), None
    except CannotBuild as error:
        if is_forced():
            sys.exit(f"ansm_fast: {FORCED_BUT} {error}")
        say(f"installing without the CUDA library ({error}); on GPUs Triton serves instead")
        return None, str(error)


@dataclass
class Toolkit:
    """One nvcc and what it says of itself."""

    nvcc: Path
    version: str
    architectures: list[tuple[int, int]]


def find_nvcc() -> Path:
    """CUDA_HOME's if that is set, else the PATH's, else the one where CUDA installs itself."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        home = os.environ.get(variable)
        if home:
            nvcc = Path(home) / "bin" / "nvcc"
            if os.access(nvcc, os.X_OK):
                return nvcc
            raise CannotBuild(f"there is no nvcc in {variable}={home}")
    for found in (shutil.which("nvcc"), shutil.which("nvcc", path="/usr/local/cuda/bin")):
        if found:
            return Path(found)
    raise CannotBuild("no nvcc was found (CUDA_HOME is not set and there is none on the PATH)")


def find_toolkit() -> Toolkit:
    nvcc = find_nvcc()

    def ask(option: str) -> str:
        try:
            done = subprocess.run([nvcc, option], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CannotBuild(f"{nvcc} {option} fails: {error}") from error
        return done.stdout

    version = re.search(r"\bV(\d+(?:\.\d+)+)", ask("--version"))
    if version is None or int(version[1].split(".")[0]) < 12:
        raise CannotBuild(f"{nvcc} is of CUDA {version[1] if version else '?'}; C++20 needs 12.0")
    listed = re.findall(r"compute_(\d+)(\d)\b", ask("--list-gpu-arch"))
    known = sorted({(int(major), int(minor)) for major, minor in listed})
    if not known:
        raise CannotBuild(f"{nvcc} --list-gpu-arch names no architecture")
    return Toolkit(nvcc, version[1], known)


def default_architectures(known: list[tuple[int, int]]) -> list[str]:
    """Machine code from 7.5 to the newest; PTX of the newest for what comes after it, and of the
    oldest for the boards in between that take no other's machine code (Jetson)."""
    newest_listed = DEFAULT_ARCHITECTURES[-1][0]
    first_of_major = {major: (major, minor) for major, minor in reversed(known)}
    later = {first for major, first in first_of_major.items() if major > newest_listed}
    chosen = sorted((set(DEFAULT_ARCHITECTURES) & set(known)) | later) or known[-1:]
    names = [f"{major}.{minor}" for major, minor in chosen]
    return [name + "+PTX" * (name in {names[0], names[-1]}) for name in names]


def chosen_architectures(known: list[tuple[int, int]], say) -> list[str]:
    """TORCH_CUDA_ARCH_LIST without what this nvcc does not know, or the default list."""
    asked = os.environ.get("TORCH_CUDA_ARCH_LIST", "").strip()
    if not asked:
        return default_architectures(known)
    if asked == "native":
        asked = ";".join(native_architectures())
    for name, meaning in NAMED_ARCHITECTURES.items():
        asked = asked.replace(name, meaning)
    chosen: list[str] = []
    for name in filter(None, re.split(r"[\s;,]+", asked)):
        parts = re.fullmatch(r"(\d+)\.(\d)[af]?(\+PTX)?", name)
        if parts is None:
            raise CannotBuild(f"TORCH_CUDA_ARCH_LIST holds {name!r}, which is no architecture")
        if (int(parts[1]), int(parts[2])) not in known:
            say(f"TORCH_CUDA_ARCH_LIST holds {name}, which this nvcc does not know; left out")
        elif name not in chosen:
            chosen.append(name)
    if not chosen:
        names = ", ".join(f"{major}.{minor}" for major, minor in known)
        raise CannotBuild(f"TORCH_CUDA_ARCH_LIST leaves no architecture; this nvcc knows {names}")
    return chosen


def native_architectures() -> list[str]:
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        raise CannotBuild("TORCH_CUDA_ARCH_LIST=native, but torch sees no GPU here")
    found = {torch.cuda.get_device_capability(index) for index in range(count)}
    return [f"{major}.{minor}" for major, minor in sorted(found)]


def architecture_flags(architectures: list[str]) -> list[str]:
    flags = []
    for name in architectures:
        number = name.removesuffix("+PTX").replace(".", "")
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if name.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


def find_ninja() -> str:
    found = shutil.which("ninja")
    if found is None:
        try:
            import ninja
        except ImportError:
            raise CannotBuild("ninja is not installed") from None
        found = os.path.join(ninja.BIN_DIR, "ninja")
    return found


def build(root: Path, target: Path, compiler: str, jobs: int, say) -> dict:
    """Compile csrc/*/cuda.cu, link ``target``, and return what _build_info.json says of it."""
    import torch

    toolkit = find_toolkit()
    ninja = find_ninja()
    architectures = chosen_architectures(toolkit.architectures, say)
    sources = sorted((root / "csrc").glob("*/cuda.cu"))
    if not sources:
        raise CannotBuild("csrc/*/cuda.cu: there is no such source")
    torch_home = Path(torch.__file__).parent
    # A folder for each nvcc and torch: headers of another version may have the same dates.
    folder = root / "build" / f"cuda-{toolkit.version}-torch-{torch.__version__}"
    folder.mkdir(parents=True, exist_ok=True)

    # Sources compile side by side; what is left of the jobs works on one source's architectures.
    threads = max(1, min(jobs // len(sources), len(architectures)))
    # nvcc takes a compiler, not a command with arguments of its own.
    own = os.environ.get("CXX") == compiler and " " not in compiler
    host = ["-ccbin", compiler] if own else []
    includes = [f"-I{path}" for path in (root / "kernels", root / "csrc", torch_home / "include")]
    # Half the size. Drivers older than CUDA 13 may not read its denser format.
    dense = int(toolkit.version.split(".")[0]) >= 13
    base = [*FLAGS, "--compress-mode=size" if dense else "-Xfatbin=-compress-all"]
    flags = [*base, *architecture_flags(architectures)]
    stub_source = "".join(f'extern "C" void {name}() {{}}\n' for name in FROM_TORCH_CUDA)
    write_if_changed(folder / "stub.cpp", stub_source)
    text = NINJA_FILE.format(
        nvcc=quote([toolkit.nvcc]),
        flags=quote([*host, *flags, *includes, f"--threads={threads}"]),
        compiler=escape(compiler),
        link=quote([*host, "-shared", "--cudart=static", *architecture_flags(architectures[-1:])]),
        # By order: some compilers drop libraries that seem not to be needed.
        libraries=quote(
            [
                # What the static CUDA run time brings along stays inside, names of functions
                # that nobody calls stay out (-s).
                "-Xlinker=--no-as-needed,-z,defs,--exclude-libs,ALL,-s",
                f"-L{torch_home / 'lib'}",
                f"-L{folder}",
                # Toolkits from PyPI keep their libraries here, where their nvcc does not look.
                f"-L{toolkit.nvcc.parent.parent / 'lib'}",
                "-lc10",
                "-ltorch_cpu",
                "-ltorch_cuda",
            ]
        ),
    )
    stub, library = folder / "libtorch_cuda.so", folder / target.name
    objects = [escape(folder / f"{source.parent.name}.o") for source in sources]
    for source, made in zip(sources, objects, strict=True):
        text += f"build {made}: compile {escape(source)}\n"
    text += f"build {escape(stub)}: stub {escape(folder / 'stub.cpp')}\n"
    text += f"build {escape(library)}: link {' '.join(objects)} | {escape(stub)}\n"
    write_if_changed(folder / "build.ninja", text)

    say(f"building {target.name} with nvcc {toolkit.version} for {' '.join(architectures)}")
    done = subprocess.run([ninja, "-C", folder, "-j", str(jobs)], stdout=sys.stderr)
    if done.returncode != 0:
        raise CannotBuild(f"nvcc {toolkit.version} could not compile or link it, see above")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(library, target)
    return {"nvcc": toolkit.version, "architectures": architectures, "flags": base}


def write_if_changed(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def escape(value: object) -> str:
    """For ninja, which takes blanks, colons and dollars for its own."""
    return re.sub(r"([$: ])", r"$\1", str(value))


def quote(arguments: list) -> str:
    """For the shell that ninja starts, inside a ninja file."""
    return shlex.join(map(str, arguments)).replace("$", "$$")
