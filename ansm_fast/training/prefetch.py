"""Batches made ahead of time, by processes beside the one that trains.

A batch depends on its step alone, so that who makes it, and when, changes nothing.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator

import cv2
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ansm_fast.errors import InputError

Batch = tuple[Tensor, ...]
_BATCHES_OF_A_WORKER = 4  # made before they are needed


class _Steps(Dataset[Batch]):
    def __init__(self, batch: Callable[[int], Batch]) -> None:
        self.batch = batch

    def __getitem__(self, step: int) -> Batch:
        return self.batch(step)


def _one_thread(_: int) -> None:
    cv2.setNumThreads(0)


def batches_ahead(
    batch: Callable[[int], Batch], steps: range, workers: int, pinned: bool = False
) -> Iterator[Batch]:
    """Make the batch of each of ``steps``, in their order.

    Args:
        batch: step number to a batch; called in this process if ``workers`` is 0.
        workers: processes that make batches. They are forked, so that they share the training
            set's memory instead of copying it.
        pinned: into page-locked memory, from where a GPU fetches them by itself.

    Raises:
        InputError: a worker died, or there are none on this system.
    """
    if not workers:
        return map(batch, steps)
    if "fork" not in multiprocessing.get_all_start_methods():
        raise InputError(f"workers must be 0 on {sys.platform}, which forks no process")
    loader = DataLoader(
        _Steps(batch),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        pin_memory=pinned,
        prefetch_factor=_BATCHES_OF_A_WORKER,
        multiprocessing_context="fork",
        worker_init_fn=_one_thread,
    )
    return _watched(loader, workers)


def _watched(loader: DataLoader[Batch], workers: int) -> Iterator[Batch]:
    try:
        yield from loader
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise InputError(
            f"workers: one of the {workers} processes that make batches died "
            f"({' '.join(str(error).split())}); give fewer, or 0; the last checkpoint is intact"
        ) from error
