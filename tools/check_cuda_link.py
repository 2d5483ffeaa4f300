"""Shows, without a GPU, that the built CUDA library loads under a CUDA torch and leaves out no op.

    python -m tools.check_cuda_link [LIBRARY] [--python PYTHON]

LIBRARY is the installed _C_cuda.so by default; the CPU library lies beside it. First the symbols
and libraries that it expects from others are looked at. Then PYTHON, an interpreter with a CUDA
torch of any version from 2.10 on (ansm_fast need not be installed there), loads both files, and
the CUDA kernels that this registers are compared with the ops' schemas. Without --python only the
first part is done.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from ansm_fast.ops import discovery
from tools import check_abi
from tools.check_abi import STABLE, undefined_symbols, unstable

# A driver is asked for at run time only; CUDA's run time is inside the library.
NEEDED = {"libc10.so", "libtorch_cpu.so", "libtorch_cuda.so"}
SYSTEM = (
    "libstdc++.",
    "libm.",
    "libgcc_s.",
    "libc.",
    "ld-linux",
    "libdl.",
    "librt.",
    "libpthread.",
)
_LOAD = """
import json, sys, torch
if torch.version.cuda is None:
    sys.exit(f"torch {torch.__version__} has no CUDA; give an interpreter whose torch has it")
for library in sys.argv[1:]:
    torch.ops.load_library(library)
names = torch._C._dispatch_get_registrations_for_dispatch_key("CUDA")
print(json.dumps({
    "torch": torch.__version__,
    "gpu": torch.cuda.is_available(),
    "ops": sorted(name.split("::")[1] for name in names if name.startswith("ansm_fast::")),
}))
"""


def needed_libraries(library: Path) -> list[str]:
    done = subprocess.run(
        ["readelf", "-dW", str(library)], check=True, capture_output=True, text=True
    )
    return re.findall(r"\(NEEDED\).*\[(.+)\]", done.stdout)


def check_symbols(library: Path) -> None:
    needed = set(needed_libraries(library))
    foreign = sorted(n for n in needed - NEEDED if not n.startswith(SYSTEM))
    if foreign or not needed >= NEEDED:
        missing = sorted(NEEDED - needed)
        sys.exit(f"check_cuda_link: {library.name} needs {foreign} besides, not {missing}")
    symbols = undefined_symbols(library)
    bad = unstable(symbols) + [s for s in symbols if re.match(r"_*(cuda|cu)[A-Z]", s)]
    if bad:
        sys.exit(f"check_cuda_link: {library.name} needs unstable symbols: {', '.join(bad[:10])}")
    stable = sum(symbol.startswith(STABLE) for symbol in symbols)
    print(
        f"{library.name}: {stable} symbols of torch's stable ABI, none of CUDA or else of torch; "
        f"needs {', '.join(sorted(NEEDED))} and system libraries"
    )


def check_registrations(library: Path, python: str) -> None:
    found = sorted(library.parent.glob("_C.*so"))
    if not found:
        sys.exit(f"check_cuda_link: there is no CPU library beside {library}")
    done = subprocess.run(
        [python, "-c", _LOAD, str(found[0]), str(library)], capture_output=True, text=True
    )
    if done.returncode != 0:
        sys.exit(f"check_cuda_link: {library.name} does not load: {done.stderr.strip()}")
    loaded = json.loads(done.stdout.splitlines()[-1])
    wanted, ops = sorted(discovery.schemas()), loaded["ops"]
    gpu = "a" if loaded["gpu"] else "no"
    print(f"torch {loaded['torch']} with {gpu} GPU: {len(ops)} CUDA kernels: {', '.join(ops)}")
    missing, extra = sorted(set(wanted) - set(ops)), sorted(set(ops) - set(wanted))
    if missing or extra:
        sys.exit(f"check_cuda_link: without a CUDA kernel: {missing}; without a schema: {extra}")
    print(f"each of the {len(wanted)} ops has one")


def installed_library() -> Path:
    path = check_abi.installed_library().with_name("_C_cuda.so")
    if not path.is_file():
        sys.exit("check_cuda_link: the installed ansm_fast has no CUDA library; give its path")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", nargs="?", type=Path)
    parser.add_argument("--python", help="interpreter with a CUDA torch")
    arguments = parser.parse_args()
    library = (arguments.library or installed_library()).resolve()
    check_symbols(library)
    if arguments.python:
        check_registrations(library, arguments.python)


if __name__ == "__main__":
    main()
