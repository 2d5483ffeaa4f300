from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .masks import each_backend

sys.path.insert(0, str(Path(__file__).parents[1] / "triton"))
from mask_step import OPS, PRECISIONS, REDUCTIONS, error_and_eagers


@each_backend
@pytest.mark.parametrize(("dtype", "scale"), PRECISIONS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("op", OPS)
def test_weight_gradient_is_as_near_to_float32_as_eagers(
    op, reduction, dtype, scale, backend
) -> None:
    error, theirs = error_and_eagers(op, backend, reduction, dtype, scale)
    assert error <= 2 * theirs + 1e-6, (error, theirs)
    assert error < 0.02
