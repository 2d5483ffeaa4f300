"""Runs a call on interpreted kernels: its results, its error, what it touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.cases import Call, in_double
from ansm_fast.ops.triton import NAMESPACE
from tools.triton.accesses import ORDERS, Accesses


def flat(results: Any) -> list[Tensor]:
    if results is None:
        return []
    if isinstance(results, Tensor):
        return [results]
    return [tensor for result in results for tensor in flat(result)]


def copied(arguments: Sequence[Any]) -> list[Any]:
    """Copies of tensors, each in its own layout."""
    return [
        a.clone(memory_format=torch.preserve_format) if isinstance(a, Tensor) else a
        for a in arguments
    ]


def results_of(call: Call, namespace: str = NAMESPACE) -> list[Tensor]:
    arguments = copied(call.arguments)
    op = getattr(getattr(torch.ops, namespace), call.op).default
    returned = flat(op(*arguments))
    return [arguments[k] for k in call.written] + returned


def error(found: Tensor, true: Tensor) -> float:
    """Largest error relative to the largest true value; equal non-finite numbers are right, and
    so are numbers as close as the smallest one of the dtype."""
    if found.shape != true.shape:
        return float("inf")
    if found.numel() == 0:
        return 0.0
    if not found.is_floating_point():
        return float((found.int() - true.int()).abs().max())
    least = torch.finfo(found.dtype).smallest_normal * torch.finfo(found.dtype).eps
    found, true = found.double(), true.double()
    same = (found == true) | (found.isnan() & true.isnan())
    wrong = torch.where(same, 0.0, (found - true).abs() - least).clamp(min=0)
    finite = true[true.isfinite()].abs()
    scale = float(finite.max()) if finite.numel() else 1.0
    return float(wrong.nan_to_num(nan=float("inf")).max()) / (scale or 1.0)


def errors_of(call: Call, found: list[Tensor]) -> list[tuple[float, float]]:
    """(error, bound) of every result against the float64 truth."""
    assert call.truth is not None
    given = copied(call.arguments)
    true = call.truth(*(given if call.exact else in_double(given)))
    assert len(found) == len(true), (call.op, len(found), len(true))
    return [(error(f, t), call.bound(f)) for f, t in zip(found, true, strict=True)]


def same_bits(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(
        a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in zip(one, other, strict=True)
    )


def row_of(call: Call, orders: Sequence[str] = ORDERS) -> dict[str, Any]:
    """Numerics, schedules, races and bytes of one call."""
    by_order, seen = [], None
    for order in orders:
        with Accesses(order) as accesses:
            by_order.append(results_of(call))
        seen = seen or accesses
    assert seen is not None
    errors = errors_of(call, by_order[0])
    sectors = 32 * sum(launch.sectors for launch in seen.launches)
    touched = sum(launch.read_bytes + launch.written_bytes for launch in seen.launches)
    return {
        "op": call.op,
        "case": call.label,
        "launches": [launch.kernel for launch in seen.launches],
        "programs": sum(launch.programs for launch in seen.launches),
        "error": max(error for error, _ in errors),
        "numerics": all(error <= bound for error, bound in errors),
        "schedules": len(orders) if all(same_bits(by_order[0], o) for o in by_order) else 0,
        "races": seen.races,
        "bytes": touched,
        "sector_bytes": sectors,
        "minimum": call.minimum,
        "bytes_over_minimum": None if call.minimum is None else touched / call.minimum,
        "sectors_over_minimum": None if call.minimum is None else sectors / call.minimum,
    }
