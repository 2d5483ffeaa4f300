"""Finds and loads the compiled libraries, for the CPU and for CUDA; says why when there is none."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import torch

PACKAGE = Path(__file__).parent.parent
# Path of each loaded library or None, and why there is none.
PATH: Path | None = None
WHY_NOT = "ansm_fast.ops was not imported"
CUDA_PATH: Path | None = None
CUDA_WHY_NOT = WHY_NOT


def build_info() -> dict[str, Any] | None:
    """What setup.py wrote down when it built the libraries; None if it built none, or was ended
    while it wrote: nobody's import shall fail for that."""
    path = PACKAGE / "_build_info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return info if isinstance(info, dict) else None


def _load() -> tuple[Path | None, str]:
    found = sorted(PACKAGE.glob("_C.*so"))
    if not found and (PACKAGE.parent / "setup.py").is_file():
        return None, (
            f"{PACKAGE} is the source tree, where no library was built, and no installed package; "
            "start Python in another folder, or build it here with pip install -e ."
        )
    if not found:
        return None, (
            "the compiled library is not part of this installation (it was installed without a "
            "C++ compiler); install g++ or clang++ and install ansm_fast again"
        )
    try:
        torch.ops.load_library(str(found[0]))
    except (OSError, RuntimeError) as error:
        return None, f"{found[0].name} could not be loaded: {' '.join(str(error).split())}"
    return found[0], ""


def _not_built() -> str:
    info = build_info()
    if info is None:
        because = "it was installed without native code"
    else:
        because = info.get("no_cuda_because") or "it was installed before there was one"
    return (
        f"the CUDA library is not part of this installation: {because}; to get it, install "
        "ansm_fast again with ANSM_FAST_CUDA=1 and nvcc on the PATH or CUDA_HOME set"
    )


def _load_cuda() -> tuple[Path | None, str]:
    path = PACKAGE / "_C_cuda.so"
    if not path.is_file():
        if torch.version.cuda is None:
            return None, f"torch {torch.__version__} has no CUDA, and {path.name} is not built"
        return None, _not_built()
    if torch.version.cuda is None:
        return None, f"{path.name} is built, but torch {torch.__version__} has no CUDA"
    try:
        torch.ops.load_library(str(path))
    except (OSError, RuntimeError) as error:
        return None, f"{path.name} could not be loaded: {' '.join(str(error).split())}"
    return path, ""


def has_code_for(architectures: list[str], capability: tuple[int, int]) -> str | None:
    """How a library built for ``architectures`` runs on a device: "machine code", "PTX", or None.

    Machine code runs on the same major and later minors (that of 8.7, 8.8 and 11.0, which are
    boards with memory shared with the CPU, only on themselves), PTX on everything later.
    """
    boards = {(8, 7), (8, 8), (11, 0)}
    how = None
    for name in architectures:
        number = name.removesuffix("+PTX")
        exact = number[-1:].isalpha()  # 9.0a: for that one alone
        major, minor = map(int, number.rstrip("af").split("."))
        same = (major, minor) == capability
        later_minor = major == capability[0] and minor <= capability[1]
        if same or (later_minor and not exact and not boards & {(major, minor), capability}):
            return "machine code"
        if name.endswith("+PTX") and not exact and (major, minor) <= capability:
            how = "PTX"
    return how


def _without_all(path: Path, operators: Iterable[str], key: str) -> str:
    """Why a loaded library does not serve: it is older than one of the operators; "" if it does."""
    for name in operators:
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"ansm_fast::{name}", key):
            return (
                f"{path.name} was built before there was {name}; install ansm_fast again, or, in a "
                "source tree, python setup.py build_ext --inplace"
            )
    return ""


def load(operators: Collection[str]) -> None:
    """Load what there is, into a namespace whose ``operators`` are defined."""
    global PATH, WHY_NOT, CUDA_PATH, CUDA_WHY_NOT
    PATH, WHY_NOT = _load()
    CUDA_PATH, CUDA_WHY_NOT = _load_cuda()
    if PATH and (why_not := _without_all(PATH, operators, "CPU")):
        PATH, WHY_NOT = None, why_not
    if CUDA_PATH and (why_not := _without_all(CUDA_PATH, operators, "CUDA")):
        CUDA_PATH, CUDA_WHY_NOT = None, why_not
