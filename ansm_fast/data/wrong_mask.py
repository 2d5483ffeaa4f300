"""The mask that an attack with the objective "wrong-mask" is given instead of the truth."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ansm_fast.data.folder import FolderDataset

# Collections hold several forgeries of one region side by side. Their masks would turn the control
# into the untargeted attack; regions that overlap by chance are no such thing.
LARGEST_OVERLAP = 0.7


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0


def wrong_mask(dataset: FolderDataset, index: int) -> NDArray[np.bool_]:
    """Return a mask (H, W) of another image, in the size of image ``index``; the same at every
    call.

    The next one in the dataset, round its end, that isn't empty and whose intersection over union
    with the truth is at most 0.7. Without such a one the truth is moved by half the image.
    """
    truth = dataset.mask(index)
    for step in range(1, len(dataset)):
        mask = dataset.mask((index + step) % len(dataset))
        if mask.shape != truth.shape:
            resized = cv2.resize(
                mask.astype(np.uint8), truth.shape[::-1], interpolation=cv2.INTER_NEAREST
            )
            mask = resized.astype(bool)
        if mask.any() and _overlap(mask, truth) <= LARGEST_OVERLAP:
            return mask
    height, width = truth.shape
    return np.roll(truth, (height // 2, width // 2), axis=(0, 1))
