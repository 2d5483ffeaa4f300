"""What the instrument must find: each planted fault, and nothing in a right kernel."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.errors import InterpreterError

from tools.triton.accesses import ORDERS, Accesses


@triton.jit
def right(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < n) * 2, mask=at < n)


@triton.jit
def load_without_mask(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at), mask=at < n)


@triton.jit
def store_without_mask(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < n))


@triton.jit
def mask_one_too_far(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at <= n), mask=at < n)


@triton.jit
def atomic_without_mask(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(out + at, tl.load(x + at, mask=at < n))


@triton.jit
def two_programs_one_word(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out, tl.sum(tl.load(x + at, mask=at < n, other=0.0), 0))


@triton.jit
def two_lanes_one_word(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at // 2, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def reads_its_neighbour(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + (at + BLOCK) % n, mask=at < n)
    tl.store(x + at, value, mask=at < n)


@triton.jit
def loads_what_it_stored(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < n), mask=at < n)
    tl.store(x + at, tl.load(out + at, mask=at < n), mask=at < n)


N, BLOCK = 100, 32


def run(kernel, order: str = "ascending") -> tuple[Accesses, torch.Tensor]:
    # Views into larger memory: what lies beside an argument is not the argument.
    x, out = torch.randn(N + 64)[16 : N + 16], torch.zeros(N + 64)[16 : N + 16]
    with Accesses(order) as seen:
        kernel[(4,)](x, out, N, BLOCK=BLOCK)
    return seen, out


@pytest.mark.parametrize("order", ORDERS)
def test_nothing_is_found_in_a_right_kernel(order) -> None:
    seen, out = run(right, order)
    assert out.all() and not seen.races
    (launch,) = seen.launches
    assert launch.kernel == "right" and launch.programs == 4
    assert launch.read_bytes == launch.written_bytes == 4 * N
    assert 2 * 12.5 <= launch.sectors <= 2 * 14


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        (load_without_mask, "load"),
        (store_without_mask, "store"),
        (mask_one_too_far, "load"),
        (atomic_without_mask, "atomic"),
    ],
)
def test_out_of_bounds(kernel, kind) -> None:
    with pytest.raises(InterpreterError, match=f"{kind} of .* lanes outside every argument"):
        run(kernel)


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (two_programs_one_word, "two programs write one byte"),
        (two_lanes_one_word, "store one byte"),
        (reads_its_neighbour, "one program reads what another one writes"),
        (loads_what_it_stored, "loads what it stored before"),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_races(kernel, words, order) -> None:
    seen, _ = run(kernel, order)
    assert any(words in race for race in seen.races)


def test_orders_are_orders() -> None:
    values = [run(two_programs_one_word, order)[1][0].item() for order in ORDERS[:2]]
    assert values[0] != values[1]  # the last program's sum stays


def test_nothing_stays_patched() -> None:
    run(right)
    x, out = torch.randn(N), torch.zeros(N)
    right[(4,)](x, out, N, BLOCK=BLOCK)
    torch.testing.assert_close(out, x * 2)
