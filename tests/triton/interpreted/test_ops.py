"""Every op against float64, every access in its place, the same bits in any order of programs."""

from __future__ import annotations

import pytest
import torch

from ansm_fast.ops.triton import NAMESPACE
from tools.triton.accesses import ORDERS
from tools.triton.cases import (
    DTYPES,
    LAYOUTS,
    dual_mask_cases,
    image_cases,
    kl_cases,
    laid_out,
    perturbation_cases,
)
from tools.triton.running import results_of, row_of, same_bits

ROOMS = (kl_cases, dual_mask_cases, perturbation_cases, image_cases)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("room", ROOMS)
def test_cases(room, layout, dtype) -> None:
    torch.manual_seed(0)
    # Addresses differ between dtypes by their sizes only: interpreter_report.py runs them all.
    whole = dtype == torch.float32
    orders = ORDERS[:2] if whole else ORDERS[1:2]
    cases = list(room(dtype, layout))[:: 1 if whole else 3]
    for case in cases:
        row = row_of(case, orders)
        assert row["numerics"], row
        assert row["schedules"] == len(orders), row
        assert not row["races"], row
        if case.floor is not None:
            assert row["bytes_over_floor"] <= 1.0, row
            assert row["sectors_over_floor"] <= 1.02, row


@pytest.mark.parametrize("layout", ["gaps", "misaligned"])
@pytest.mark.parametrize("room", ROOMS)
def test_other_layouts_give_the_same(room, layout) -> None:
    """A view with gaps is copied, a misaligned one read as it is."""
    for case in list(room(torch.float32, "contiguous"))[::3]:
        expected = results_of(case)
        moved = [
            laid_out(a, layout) if isinstance(a, torch.Tensor) and a.dim() > 2 else a
            for a in case.arguments
        ]
        arguments = case.arguments
        case.arguments = tuple(moved)
        found = _called(case) if case.written else results_of(case)
        case.arguments = arguments
        assert same_bits(found, expected), (case.op, case.label)


def _called(case) -> list[torch.Tensor]:
    """In-place results through the views themselves; a gradient with gaps is refused."""
    if case.op == "channelwise_kl_scale_" and not case.arguments[0].is_contiguous():
        return results_of(case)
    getattr(getattr(torch.ops, NAMESPACE), case.op).default(*case.arguments)
    return [case.arguments[k] for k in case.written]
