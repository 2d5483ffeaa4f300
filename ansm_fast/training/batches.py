"""Batches that depend on the seed and the step alone, so that a resumed run repeats nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ansm_fast.data import FolderDataset
from ansm_fast.data.folder import Contents
from ansm_fast.errors import InputError
from ansm_fast.images.find import left_out_lines
from ansm_fast.images.photograph import Image
from ansm_fast.progress import Progress


class MemorySet:
    """Images and masks of one size, decoded once and kept as bytes.

    Args:
        root: folder with images/ and masks/.
        limit: take the first ``limit`` only.

    Attributes:
        lines: what the masks say and what was left out, to be printed.

    Raises:
        InputError: images of different sizes, or what FolderDataset raises.
    """

    def __init__(self, root: Path, limit: int | None = None) -> None:
        dataset = FolderDataset(root / "images", root / "masks")
        count = len(dataset) if limit is None else min(limit, len(dataset))
        first = dataset[0]["image"].shape
        self.names = dataset.names[:count]
        self.images: Image = np.empty((count, *first), np.uint8)
        self.masks: NDArray[np.bool_] = np.empty((count, *first[:2]), bool)

        def read(index: int) -> list[Path]:
            sample, turned = dataset.examine(index)
            if sample["image"].shape != first:
                raise InputError(
                    f"{root}: image {sample['name']} is {sample['image'].shape[:2]}, the first one "
                    f"{first[:2]}; training needs one size, crop the images first"
                )
            self.images[index], self.masks[index] = sample["image"], sample["mask"]
            return turned

        turned: list[Path] = []
        # Decoders let other threads run.
        with Progress(f"read {root}", count) as progress, ThreadPoolExecutor() as pool:
            for found in pool.map(read, range(count)):
                turned += found
                progress.advance()
        forged = self.masks.reshape(count, -1)
        empty, full = int((~forged.any(axis=1)).sum()), int(forged.all(axis=1).sum())
        contents = Contents(count, empty, full, tuple(turned))
        lines = [*contents.lines(), *left_out_lines(dataset.left_out)]
        self.lines = [f"{root}: {line}" for line in lines]

    def __len__(self) -> int:
        return len(self.images)


def step_rng(seed: int, step: int, purpose: int = 0) -> np.random.Generator:
    """Return the generator of one step; ``purpose`` keeps independent draws of a step apart."""
    return np.random.default_rng([seed, purpose, step])


def epoch_indices(seed: int, position: int, count: int, size: int) -> NDArray[np.int64]:
    """Return ``count`` indices into a set of ``size``, from ``position`` of endless shuffled
    epochs."""
    taken: list[int] = []
    while len(taken) < count:
        epoch, offset = divmod(position + len(taken), size)
        order = np.random.default_rng([seed, 1, epoch]).permutation(size)
        taken.extend(order[offset : offset + count - len(taken)].tolist())
    return np.array(taken, np.int64)


def crop_window(rng: np.random.Generator, size: tuple[int, int], crop: int) -> tuple[slice, slice]:
    """Draw a crop of (height, width) on the even grid that the pixel-unshuffled networks see."""
    height, width = size
    crop_y, crop_x = min(crop, height), min(crop, width)
    top = 2 * int(rng.integers(0, (height - crop_y) // 2 + 1))
    left = 2 * int(rng.integers(0, (width - crop_x) // 2 + 1))
    return slice(top, top + crop_y), slice(left, left + crop_x)


def flip(rng: np.random.Generator, *arrays: np.ndarray) -> list[np.ndarray]:
    """Mirror (B, H, W, ...) arrays alike, each axis half of the time."""
    result = list(arrays)
    for axis in (1, 2):
        if rng.random() < 0.5:
            result = [np.flip(array, axis) for array in result]
    return result
