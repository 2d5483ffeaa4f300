"""Batches that depend on the seed and the step alone, so that a resumed run repeats nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ansm_fast.data import FolderDataset
from ansm_fast.data.folder import Contents
from ansm_fast.data.split import Side, split_set
from ansm_fast.errors import InputError
from ansm_fast.images.find import left_out_lines
from ansm_fast.images.photograph import Image
from ansm_fast.images.pixels import size_of
from ansm_fast.progress import Progress
from ansm_fast.training.run_config import DataConfig
from ansm_fast.training.windows import cut_windows, plan_windows, window_side


class MemorySet:
    """Images and masks of one size, decoded once and kept as bytes.

    Images of several sizes, and larger ones than ``window`` allows, give windows of one size; see
    ``plan_windows`` and ``cut_windows``. They hang on the files and ``seed`` alone. Decoded are
    four images at a time, so that memory holds the set, 4 bytes a pixel, and these.

    Args:
        root: folder with images/ and masks/.
        limit: take so many images only, and one window of each.
        side: take one side of the set's split alone; see ``split_set``.
        shuffle: in random order, since the first by name may be of one kind; by default by name.
        window: largest height and width that images keep.
        memory: bound of the set, in GiB.
        seed: of what is drawn.

    Attributes:
        names: of the images; of a further window of one, with "~1" and so on.
        forged: whether each image holds a forgery.
        lines: what the masks say, what was cut and what was left out, to be printed.

    Raises:
        InputError: nothing is left, or what FolderDataset and ``split_set`` raise.
    """

    def __init__(
        self,
        root: Path,
        limit: int | None = None,
        *,
        side: Side | None = None,
        shuffle: bool = False,
        window: int | None = None,
        memory: float | None = None,
        seed: int = 0,
    ) -> None:
        dataset = FolderDataset(root / "images", root / "masks")
        self.lines: list[str] = []
        taken = self._on_side(dataset, root, side)
        if shuffle:
            taken = np.random.default_rng([seed, 5]).permutation(taken).tolist()
        taken = taken[:limit]
        sizes = [size_of(dataset.pairs[index][0]) for index in taken]
        length = window_side(sizes, window)
        height, width = sizes[0] if length is None else (length, length)
        most = None if memory is None else max(1, int(memory * 2**30 / (4 * height * width)))
        if length is None:
            # Whole images, as many as there is memory for.
            plan = plan_windows(sizes, 1, most, several=False, seed=seed)
            cut = [f"left out: {plan.left} images more than data.memory holds"] if plan.left else []
        else:
            plan = plan_windows(sizes, length, most, several=limit is None, seed=seed)
            cut = plan.lines()
        total = int(plan.counts.sum())
        if not total:
            raise InputError(f"{root}: nothing is left to train on; {'; '.join(cut)}")
        self.images: Image = np.empty((total, height, width, 3), np.uint8)
        self.masks: NDArray[np.bool_] = np.empty((total, height, width), bool)
        starts = np.cumsum(plan.counts) - plan.counts
        self.names = [
            dataset.names[index] + (f"~{number}" if number else "")
            for index, count in zip(taken, plan.counts, strict=True)
            for number in range(count)
        ]

        def read(place: int) -> list[Path]:
            index, count, start = taken[place], int(plan.counts[place]), int(starts[place])
            if not count:
                return []
            sample, turned = dataset.examine(index)
            image, mask = sample["image"], sample["mask"]
            if length is None:
                pieces = [(image, mask)]
            else:
                rng = np.random.default_rng([seed, 4, index])
                pieces = cut_windows(image, mask, length, count, rng)
            for number, piece in enumerate(pieces, start):
                self.images[number], self.masks[number] = piece
            return turned

        turned: list[Path] = []
        # Decoders let other threads run; few of them, since an image may be large.
        with Progress(f"read {root}", len(taken)) as progress, ThreadPoolExecutor(4) as pool:
            for found in pool.map(read, range(len(taken))):
                turned += found
                progress.advance()
        flat = self.masks.reshape(total, -1)
        self.forged: NDArray[np.bool_] = np.any(flat, axis=1)
        empty, full = int((~self.forged).sum()), int(flat.all(axis=1).sum())
        contents = Contents(total, empty, full, tuple(turned))
        lines = [*self.lines, *cut, *contents.lines(), *left_out_lines(dataset.left_out)]
        self.lines = [f"{root}: {line}" for line in lines]

    def draw_like(self, rng: np.random.Generator, index: int) -> int:
        """Index of any image that is forged if that of ``index`` is, and pristine if it is."""
        alike = np.flatnonzero(self.forged == self.forged[index])
        return int(alike[rng.integers(len(alike))])

    @classmethod
    def training(cls, data: DataConfig) -> MemorySet:
        """Read the images that a configuration trains on."""
        side: Side | None = "train" if data.validation is None else None
        return cls(data.train, side=side, window=data.window, memory=data.memory)

    @classmethod
    def validation(cls, data: DataConfig) -> MemorySet:
        """Read the images that it measures on, one window of each."""
        count, window = data.validation_count, data.window
        if data.validation is None:
            return cls(data.train, count, side="validation", shuffle=True, window=window)
        return cls(data.validation, count, shuffle=window is not None, window=window)

    def _on_side(self, dataset: FolderDataset, root: Path, side: Side | None) -> list[int]:
        """Indices of the images on one side of the split."""
        if side is None:
            return list(range(len(dataset)))
        sides = split_set(dataset, root)
        found = [index for index, one in enumerate(sides) if one == side]
        purpose = "trained on" if side == "train" else "kept for the validation"
        self.lines.append(f"{len(found)} of {len(sides)} images are {purpose}")
        if mixed := sides.count(None):
            self.lines.append(f"left out: {mixed} images of photographs of training and validation")
        if not found:
            raise InputError(
                f"{root}: no image is left for the {side}; give a folder with more photographs, or "
                "one with train/ and validation/"
            )
        return found

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
