from __future__ import annotations

import pytest

from tools.mask_step import OPS, PRECISIONS, REDUCTIONS, error_and_eagers

from .masks import each_backend


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
