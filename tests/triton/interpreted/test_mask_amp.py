from __future__ import annotations

import pytest

from tools.mask_step import OPS, PRECISIONS, REDUCTIONS, error_and_eagers


@pytest.mark.parametrize(("dtype", "scale"), PRECISIONS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("op", OPS)
def test_weight_gradient_is_as_near_to_float32_as_eagers(op, reduction, dtype, scale) -> None:
    error, theirs = error_and_eagers(op, "triton", reduction, dtype, scale)
    assert error <= 2 * theirs + 1e-6, (error, theirs)
