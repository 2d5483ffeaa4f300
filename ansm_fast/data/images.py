"""Finding photographs and reading them as 8-bit RGB arrays."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ansm_fast.errors import InputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"})

# OpenCV's own thread pool fights with torch's for the same cores.
cv2.setNumThreads(1)

Image = NDArray[np.uint8]


def find_images(folder: str | Path) -> list[Path]:
    """All image files below ``folder``, sorted; InputError if there is no folder or no image."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}; give a folder that holds photographs")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    if not found:
        raise InputError(
            f"no image in {folder}; expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return found


def _decode(path: str | Path, kind: str, flags: int) -> NDArray[np.uint8]:
    encoded = np.fromfile(path, dtype=np.uint8)
    try:
        image = cv2.imdecode(encoded, flags) if encoded.size else None
    except cv2.error:  # more pixels than OpenCV takes, whether or not they are there
        image = None
    if image is None:
        raise InputError(
            f"cannot decode {kind} {path}; remove it or replace it by an intact file of at most "
            "2^30 pixels"
        )
    return image


def read_rgb(path: str | Path) -> Image:
    """Decode one image to (H, W, 3) uint8 RGB; InputError if it cannot be decoded."""
    return np.ascontiguousarray(_decode(path, "image", cv2.IMREAD_COLOR)[:, :, ::-1])


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """Decode one mask to (H, W) bool, True where the file is brighter than mid-grey."""
    return _decode(path, "mask", cv2.IMREAD_GRAYSCALE) > 127


def to_tensor(images: Image) -> torch.Tensor:
    """(B, H, W, 3) uint8 RGB to (B, 3, H, W) float32 in [0, 1], channels_last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(255)


def mask_to_tensor(masks: NDArray[np.bool_]) -> torch.Tensor:
    """(B, H, W) bool to (B, 1, H, W) float32 in {0, 1}."""
    return torch.from_numpy(np.ascontiguousarray(masks)).unsqueeze(1).float()
