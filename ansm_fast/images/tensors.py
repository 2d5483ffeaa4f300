"""8-bit arrays of images and masks to tensors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ansm_fast.images.photograph import Image


def to_tensor(images: Image) -> torch.Tensor:
    """Convert (B, H, W, 3) uint8 RGB to (B, 3, H, W) float32 in [0, 1], channels_last."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(255)


def mask_to_tensor(masks: NDArray[np.bool_]) -> torch.Tensor:
    """Convert (B, H, W) bool to (B, 1, H, W) float32 in {0, 1}."""
    return torch.from_numpy(np.ascontiguousarray(masks)).unsqueeze(1).float()
