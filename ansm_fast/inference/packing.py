"""Pixels of photographs to batches for a network, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ansm_fast.images.photograph import Pixels
from ansm_fast.ops import clamp_project, image_pack, image_unpack


def _canvas(batch: Sequence[Pixels], height: int, width: int) -> Pixels:
    """(B, height, width, 3): grey as three channels, last row and column repeated. A single image
    that needs neither is taken as it is; others are copied once."""
    first = batch[0]
    if len(batch) == 1 and first.shape == (height, width, 3) and first.flags.c_contiguous:
        return first[None]
    canvas = np.empty((len(batch), height, width, 3), first.dtype)
    for place, pixels in zip(canvas, batch, strict=True):
        rows, columns = pixels.shape[:2]
        place[:rows, :columns] = pixels
        place[rows:, :columns] = place[rows - 1 : rows, :columns]
        place[:, columns:] = place[:, columns - 1 : columns]
    return canvas


class _Writable:
    """The memory of an array that forbids writing, as decoders give them, for a tensor that is read
    alone: PyTorch knows no other, and would warn."""

    def __init__(self, array: Pixels) -> None:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__, self._owner = interface, array


def _shared(array: Pixels) -> Tensor:
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Writable(array)))


def pack(
    batch: Sequence[Pixels], height: int, width: int, device: torch.device | None = None
) -> Tensor:
    """(B, 3, height, width) float32 RGB in [0, 1], channels_last, of pixels of one depth that are
    no larger."""
    levels = _shared(_canvas(batch, height, width)).to(device or "cpu")
    if levels.dtype == torch.uint16:
        return levels.to(torch.float32).div_(65535).permute(0, 3, 1, 2)
    return image_pack(levels, bgr=False, memory_format=torch.channels_last)


def unpack(image: Tensor, perturbation: Tensor, eps: float, deep: bool) -> Pixels:
    """(B, H, W, 3) of the defended levels, uint16 where ``deep``, otherwise uint8."""
    if deep:
        defended = clamp_project(image, perturbation, eps)
        levels = defended.mul(65535).round_().permute(0, 2, 3, 1)
        return levels.contiguous().cpu().numpy().astype(np.uint16)
    return image_unpack(image, perturbation, eps, bgr=False).cpu().numpy()
