"""Finds and loads the compiled CPU library; says why when there is none."""

from __future__ import annotations

from pathlib import Path

import torch

PACKAGE = Path(__file__).parent.parent


def _load() -> tuple[Path | None, str]:
    found = sorted(PACKAGE.glob("_C*.so"))
    if not found:
        return None, (
            "the compiled library is not part of this installation (it was installed without a "
            "C++ compiler); install g++ or clang++ and install ansm_fast again"
        )
    try:
        torch.ops.load_library(str(found[0]))
    except OSError as error:
        return None, f"{found[0].name} could not be loaded: {error}"
    return found[0], ""


# Path of the loaded library or None, and why there is none.
PATH, WHY_NOT = _load()
