"""What the op tests share."""

from __future__ import annotations

import pytest
from torch import Tensor

from ansm_fast.ops import library

BACKENDS = ("cpu", "reference")


@pytest.fixture(autouse=True)
def native_library() -> None:
    if library.PATH is None:
        pytest.skip(f"no compiled library: {library.WHY_NOT}")


def error(value: Tensor, truth: Tensor) -> float:
    """Largest error relative to the largest true value."""
    value, truth = value.detach(), truth.detach()
    scale = float(truth.abs().max()) or 1.0
    return float((value.double() - truth.double()).abs().max()) / scale
