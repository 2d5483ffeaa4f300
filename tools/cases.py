"""What the ops' ``cases.py`` say, of all ops together."""

from __future__ import annotations

import functools
import importlib
import zlib
from collections.abc import Iterable, Iterator

import torch

from ansm_fast.ops.cases import Call, Case, Function, OpCases
from tools.ops import OPS


@functools.cache
def described() -> dict[str, OpCases]:
    """What each op's cases.py says."""
    return {op: importlib.import_module(f"ansm_fast.ops.{op}.cases").CASES for op in OPS}


@functools.cache
def functions() -> dict[str, Function]:
    """The public functions of all ops, by name."""
    return {name: f for op in described().values() for name, f in op.functions.items()}


@functools.cache
def folders() -> dict[str, str]:
    """The op of each public function."""
    return {name: op for op, cases in described().items() for name in cases.functions}


@functools.cache
def operators() -> dict[str, str]:
    """The operators of all ops, and the op of each."""
    return {name: op for op, cases in described().items() for name in cases.operators}


def cases(quick: bool = False) -> list[Case]:
    """All calls of public functions, or the few hundred small ones."""
    found = [case for op in described().values() for case in op.cases()]
    return [case for case in found if case.quick] if quick else found


def calls(dtype: torch.dtype, layout: str) -> Iterator[Call]:
    """Every operator on even and odd shapes; the same numbers at every call."""
    for op in described().values():
        torch.manual_seed(0)
        yield from op.calls(dtype, layout)


def third_of(every: Iterable[Call], of: str) -> Iterator[Call]:
    """About every third call, and the first of each operator; other ones for another ``of``, such
    as a dtype. Chosen by a hash of the call's name: options that take turns in a list of calls all
    come up."""
    seen = set()
    for call in every:
        if call.op not in seen or zlib.crc32(f"{call.op} {call.label} {of}".encode()) % 3 == 0:
            yield call
        seen.add(call.op)


def compiled_calls(dtype: torch.dtype, brief: bool) -> Iterator[Call]:
    """Calls that launch every Triton kernel in the shapes that it is made for."""
    for op in described().values():
        yield from op.compiled(dtype, brief)


def traffic(dtype: torch.dtype) -> Iterator[Call]:
    """Every operator on rows that are aligned and on odd ones."""
    torch.manual_seed(0)
    for op in described().values():
        yield from op.traffic(dtype)


def large(elements: int) -> Iterator[Call]:
    for op in described().values():
        yield from op.large(elements)
