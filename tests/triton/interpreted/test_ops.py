"""Every op against float64, every access in its place, the same bits in any order of programs."""

from __future__ import annotations

import pytest
import torch

from ansm_fast.ops.cases import DTYPES, FLOAT, NATIVE_LAYOUTS, Call, laid_out
from ansm_fast.ops.triton import NAMESPACE
from tools.cases import described, third_of
from tools.ops import OPS
from tools.triton.accesses import ORDERS
from tools.triton.running import results_of, row_of, same_bits


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", NATIVE_LAYOUTS)
@pytest.mark.parametrize("op", OPS)
def test_calls(op, layout, dtype) -> None:
    torch.manual_seed(0)
    # Addresses differ between dtypes by their sizes only: interpreter_report.py runs them all.
    every = described()[op].calls(dtype, layout)
    some = every if dtype == FLOAT else third_of(every, f"{dtype} {layout}")
    for index, call in enumerate(some):
        other = ORDERS[1 + index % 2]
        orders = (ORDERS[0], other) if dtype == FLOAT else (other,)
        row = row_of(call, orders)
        assert row["numerics"], row
        assert row["schedules"] == len(orders), row
        assert not row["races"], row
        if call.minimum is not None:
            assert row["bytes_over_minimum"] <= 1.0, row
            assert row["sectors_over_minimum"] <= 1.02, row


@pytest.mark.parametrize("layout", ["gaps", "misaligned"])
@pytest.mark.parametrize("op", OPS)
def test_other_layouts_give_the_same(op, layout) -> None:
    """A view with gaps is copied, a misaligned one read as it is."""
    for call in third_of(described()[op].calls(FLOAT, "contiguous"), layout):
        expected = results_of(call)
        moved = [
            laid_out(a, layout) if isinstance(a, torch.Tensor) and a.dim() > 2 else a
            for a in call.arguments
        ]
        arguments = call.arguments
        call.arguments = tuple(moved)
        found = _called(call) if call.written else results_of(call)
        call.arguments = arguments
        assert same_bits(found, expected), (call.op, call.label)


def _called(call: Call) -> list[torch.Tensor]:
    """In-place results through the views themselves; a gradient with gaps is refused."""
    if call.op == "channelwise_kl_scale_" and not call.arguments[0].is_contiguous():
        return results_of(call)
    getattr(getattr(torch.ops, NAMESPACE), call.op).default(*call.arguments)
    return [call.arguments[k] for k in call.written]
