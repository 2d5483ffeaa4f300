"""Batches made by other processes: in order, the same, and a dead process is told in a line."""

from __future__ import annotations

import os

import pytest
import torch

from ansm_fast.errors import InputError
from ansm_fast.training.prefetch import batches_ahead


def squares(step: int) -> tuple[torch.Tensor, ...]:
    return (torch.full((2, 3), step), torch.tensor([step**2]))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order(workers) -> None:
    found = list(batches_ahead(squares, range(5, 16), workers))
    assert len(found) == 11
    for step, (first, second) in zip(range(5, 16), found, strict=True):
        assert first.unique().tolist() == [step] and second.tolist() == [step**2]


def test_no_batch_is_made_where_none_is_wanted() -> None:
    assert list(batches_ahead(squares, range(4, 4), 2)) == []


def test_a_worker_that_dies_is_named() -> None:
    def dies(step: int) -> tuple[torch.Tensor, ...]:
        if step == 2:
            os._exit(1)
        return squares(step)

    with pytest.raises(InputError, match=r"workers: one of the 2 processes .* died .*give fewer"):
        list(batches_ahead(dies, range(8), 2))


def test_an_error_of_a_batch_stays_what_it_is() -> None:
    def wrong(step: int) -> tuple[torch.Tensor, ...]:
        raise RuntimeError("no such image")

    with pytest.raises(RuntimeError, match="no such image"):
        list(batches_ahead(wrong, range(2), 1))
