"""Windows of one size, cut out of images of any size: which size, how many, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ansm_fast.images.photograph import Image

Size = tuple[int, int]

# Sides of windows are multiples of it, and at most so large where nothing else is said.
_STEP, LARGEST = 32, 512
# Share of the images that must hold a window whole.
_HOLD = 0.75
# Of one large image at most so many, so that a few large ones do not fill the set.
_MOST = 4
# Corners lie where the blocks of a JPEG begin: their traces are the localizer's.
_GRID = 8
_TRIES, _FORGED_SHARE = 8, 0.25


def window_side(sizes: Sequence[Size], largest: int | None) -> int | None:
    """Choose the side of the windows that images of these (height, width) are cut to.

    None: all have one size, which stays as it is. Otherwise the largest multiple of 32, at most
    ``largest`` (512 by default), that three quarters of the images hold in both directions.
    """
    if len(set(sizes)) == 1 and (largest is None or max(sizes[0]) <= largest):
        return None
    shorter = np.array([min(size) for size in sizes])
    most = largest or LARGEST
    for side in range(most // _STEP * _STEP, 0, -_STEP):
        if (shorter >= side).mean() >= _HOLD:
            return side
    return min(_STEP, most)


@dataclass(frozen=True)
class Plan:
    """How many windows each image gives.

    Attributes:
        side: of a window.
        counts: of windows, by image; 0: the image is too small, or the set too large.
        padded: images that are mirrored at their borders since they are a little too small.
        small: images with less than half a window's side.
        left: windows that the bound on memory leaves out.
    """

    side: int
    counts: NDArray[np.int64]
    padded: int
    small: int
    left: int

    def lines(self) -> list[str]:
        """To be printed before the work."""
        images, windows = int((self.counts > 0).sum()), int(self.counts.sum())
        text = f"{windows} windows of {self.side}x{self.side} pixels cut from {images} images"
        if self.padded:
            text += f", {self.padded} of them mirrored at their borders to that size"
        found = [text]
        if self.small:
            found.append(
                f"left out: {self.small} images with a side of less than {self.side // 2} pixels"
            )
        if self.left:
            found.append(f"left out: {self.left} windows more than data.memory holds")
        return found


def plan_windows(
    sizes: Sequence[Size], side: int, most_windows: int | None, several: bool, seed: int
) -> Plan:
    """Plan the windows of images of these (height, width).

    Args:
        side: of a window.
        most_windows: what memory holds; beyond it every image gives one window, and if these are
            too many, images drawn by ``seed`` give none.
        several: a large image gives as many as lie in it side by side, at most 4; else one.
    """
    array = np.array(sizes, np.int64).reshape(-1, 2)
    shorter = array.min(axis=1)
    small = shorter < (side + 1) // 2
    counts = np.where(small, 0, 1)
    if several:
        counts *= np.clip((array // side).prod(axis=1), 1, _MOST)
    wanted = int(counts.sum())
    if most_windows is not None and wanted > most_windows:
        counts = np.minimum(counts, 1)
        taken = np.flatnonzero(counts)
        if len(taken) > most_windows:
            order = np.random.default_rng([seed, 3]).permutation(taken)
            counts[order[most_windows:]] = 0
    return Plan(
        side,
        counts,
        padded=int(((shorter < side) & (counts > 0)).sum()),
        small=int(small.sum()),
        left=wanted - int(counts.sum()),
    )


def cut_windows(
    image: Image, mask: NDArray[np.bool_], side: int, count: int, rng: np.random.Generator
) -> list[tuple[Image, NDArray[np.bool_]]]:
    """Cut windows of ``side`` x ``side`` out of an image and its mask.

    An image that is too small is mirrored at its borders. Where there is a forgery the first window
    holds a part of it, of a quarter of its area as nearly as eight tries come; the others lie
    anywhere.
    """
    missing = [max(0, side - length) for length in mask.shape]
    if any(missing):
        border = (0, missing[0], 0, missing[1], cv2.BORDER_REFLECT_101)
        image = cv2.copyMakeBorder(image, *border)
        mask = cv2.copyMakeBorder(mask.astype(np.uint8), *border).astype(bool)
    forged = np.flatnonzero(mask)
    corners: list[Size] = []
    for number in range(count):
        if number == 0 and len(forged):
            tries = [_around(rng, mask.shape, int(rng.choice(forged)), side) for _ in range(_TRIES)]
            corners.append(
                min(tries, key=lambda corner: abs(_at(mask, corner, side).mean() - _FORGED_SHARE))
            )
        else:
            corners.append(_around(rng, mask.shape, int(rng.integers(mask.size)), side))
    return [(_at(image, corner, side), _at(mask, corner, side)) for corner in corners]


def _around(rng: np.random.Generator, shape: Sequence[int], pixel: int, side: int) -> Size:
    """Corner of a window that holds ``pixel``, counted row by row, at a random place."""
    corner = []
    for position, length in zip(divmod(pixel, shape[1]), shape, strict=False):
        start = position - int(rng.integers(max(1, side - _GRID + 1)))
        corner.append(min(max(start - start % _GRID, 0), length - side))
    return corner[0], corner[1]


def _at(array: np.ndarray, corner: Size, side: int) -> np.ndarray:
    return array[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
