"""Sees every access that interpreted Triton kernels make to memory.

::

    with Accesses() as seen:
        ...  # calls of ops; an access outside every tensor argument of its launch raises
    seen.races, seen.launches

Every unmasked lane of a load or store must lie within a tensor argument of its launch: within the
elements of the argument itself, not of the memory that it is a view of. Two programs of a launch
that touch one byte, one of them writing, are a race under any schedule, also where the result
came out right; so are two lanes of one store, and a program that loads what it stored before,
since nothing orders its threads. ``order`` runs the programs of every launch ascending,
descending or shuffled, or only the last one: the addresses of huge tensors, whose memory need not
be there, in little time. Needs TRITON_INTERPRET=1 before Triton is imported.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from triton.runtime import interpreter

SECTOR = 32  # bytes that memory is read and written by
ORDERS = ("ascending", "descending", "shuffled")


class OutOfBounds(IndexError):
    pass


@dataclass
class Launch:
    """What one launch touched."""

    kernel: str
    programs: int
    read_bytes: int = 0
    written_bytes: int = 0
    sectors: int = 0  # distinct ones, read and written counted apart


@dataclass
class _Open:
    """A launch that is running: its memory, and the bytes that its programs touched."""

    kernel: str
    grid: tuple[int, int, int]
    ranges: list[tuple[int, int]]
    indices: list[int]
    started: int = 0  # programs
    prepared: set[str] = field(default_factory=set)  # modules
    reads: list[tuple[int, np.ndarray]] = field(default_factory=list)
    writes: list[tuple[int, np.ndarray]] = field(default_factory=list)


def _extent(tensor: torch.Tensor) -> tuple[int, int]:
    if tensor.numel() == 0:
        return (tensor.data_ptr(), tensor.data_ptr())
    last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    begin = tensor.data_ptr()
    return begin, begin + (last + 1) * tensor.element_size()


def _together(touched: list[tuple[int, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct bytes by program, sorted by byte: (bytes, programs)."""
    if not touched:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    places = np.concatenate([bytes_ for _, bytes_ in touched])
    owners = np.concatenate([np.full(len(b), program, np.int64) for program, b in touched])
    pairs = np.unique(np.stack([places, owners]), axis=1)
    return pairs[0], pairs[1]


class Accesses:
    def __init__(self, order: str = "ascending") -> None:
        if order not in (*ORDERS, "last"):
            raise ValueError(f"order must be one of {', '.join(ORDERS)} or last, got {order!r}")
        self.order = order
        self.launches: list[Launch] = []
        self.races: list[str] = []
        self._open: _Open | None = None
        self._restore: list[tuple[Any, str, Any]] = []

    # --- what the interpreter does is seen here ------------------------------------------------

    def __enter__(self) -> Accesses:
        builder = interpreter.InterpreterBuilder
        self._patch(interpreter.GridExecutor, "__call__", self._call)
        self._patch(builder, "set_grid_idx", self._next_program)
        # Unmasked and descriptor accesses end in the masked ones.
        self._patch(builder, "create_masked_load", self._access("load", 0, 1))
        self._patch(builder, "create_masked_store", self._access("store", 0, 2))
        self._patch(builder, "create_atomic_rmw", self._access("atomic", 1, 3))
        self._patch(builder, "create_atomic_cas", self._access("atomic", 0, None))
        self._patch(interpreter.InterpretedFunction, "__call__", self._call_function)
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, original in reversed(self._restore):
            setattr(owner, name, original)
        self._restore.clear()

    def _patch(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        self._restore.append((owner, name, original))
        setattr(owner, name, make(original))

    def _call(self, original: Any) -> Any:
        def call(executor: Any, *arguments: Any, **options: Any) -> Any:
            grid = tuple(executor.grid) + (1,) * (3 - len(executor.grid))
            programs = grid[0] * grid[1] * grid[2]
            if self.order == "last":
                executor.grid, indices = (1,), [programs - 1]
            else:
                indices = list(range(programs))
            if self.order == "descending":
                indices.reverse()
            elif self.order == "shuffled":
                random.Random(programs).shuffle(indices)
            tensors = [a for a in (*arguments, *options.values()) if isinstance(a, torch.Tensor)]
            self._open = _Open(executor.fn.__name__, grid, [_extent(t) for t in tensors], indices)
            try:
                result = original(executor, *arguments, **options)
            finally:
                opened, self._open = self._open, None
            self._close(opened)
            return result

        return call

    def _call_function(self, original: Any) -> Any:
        """The interpreter prepares its language at every call of a function, which takes longer
        than most functions do: once a launch is enough."""

        def call(function: Any, *arguments: Any, **options: Any) -> Any:
            module = function.fn.__globals__["__name__"]
            if self._open is None or module not in self._open.prepared:
                if self._open is not None:
                    self._open.prepared.add(module)
                return original(function, *arguments, **options)
            return function.rewrite()(*arguments, **options)

        return call

    def _next_program(self, original: Any) -> Any:
        def set_grid_idx(builder: Any, x: int, y: int, z: int) -> None:
            opened = self._open
            if opened is None:
                original(builder, x, y, z)
                return
            index = opened.indices[opened.started]
            opened.started += 1
            _, ny, nz = opened.grid
            builder.grid_idx = (index // (ny * nz), index // nz % ny, index % nz)

        return set_grid_idx

    def _access(self, kind: str, pointer_at: int, mask_at: int | None) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            def access(builder: Any, *arguments: Any, **options: Any) -> Any:
                mask = None if mask_at is None else arguments[mask_at]
                self._see(kind, arguments[pointer_at], mask)
                return original(builder, *arguments, **options)

            return access

        return make

    # --- what it means --------------------------------------------------------------------------

    def _see(self, kind: str, pointers: Any, mask: Any) -> None:
        opened = self._open
        if opened is None:
            return
        size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        lanes = np.asarray(pointers.data).astype(np.int64)
        if mask is not None:
            lanes = lanes[np.broadcast_to(np.asarray(mask.data).astype(bool), lanes.shape)]
        lanes = lanes.reshape(-1)
        within = np.zeros(lanes.shape, bool)
        for begin, end in opened.ranges:
            within |= (lanes >= begin) & (lanes + size <= end)
        if not within.all():
            raise OutOfBounds(
                f"{opened.kernel}: {kind} of {int((~within).sum())} lanes outside every argument, "
                f"program {opened.indices[opened.started - 1]}"
            )
        program = opened.indices[opened.started - 1]
        touched = (lanes[:, None] + np.arange(size)).reshape(-1)
        distinct = np.unique(touched)
        if kind == "load":
            self._check_own_stores(opened, program, distinct)
            opened.reads.append((program, distinct))
            return
        if len(distinct) < len(touched):
            self._race(opened, f"two lanes of program {program} store one byte")
        opened.writes.append((program, distinct))
        if kind == "atomic":
            opened.reads.append((program, distinct))

    def _check_own_stores(self, opened: _Open, program: int, loaded: np.ndarray) -> None:
        for writer, stored in reversed(opened.writes):
            if writer != program:
                break
            if np.isin(loaded, stored, assume_unique=True).any():
                self._race(opened, f"program {program} loads what it stored before")

    def _race(self, opened: _Open, what: str) -> None:
        finding = f"{opened.kernel}: {what}"
        if finding not in self.races:
            self.races.append(finding)

    def _close(self, opened: _Open) -> None:
        read, readers = _together(opened.reads)
        written, writers = _together(opened.writes)
        if len(np.unique(written)) < len(written):
            self._race(opened, "two programs write one byte")
        elif len(written) and len(read):
            at = np.minimum(np.searchsorted(written, read), len(written) - 1)
            if ((written[at] == read) & (writers[at] != readers)).any():
                self._race(opened, "one program reads what another one writes")
        sectors = sum(len(np.unique(bytes_ // SECTOR)) for bytes_ in (read, written))
        self.launches.append(
            Launch(
                opened.kernel, len(opened.indices), len(np.unique(read)), len(np.unique(written)),
                sectors,
            )
        )  # fmt: skip
