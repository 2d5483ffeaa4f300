"""Quick figures while training; `ansm-fast evaluate` measures properly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ansm_fast.data.images import Image, mask_to_tensor, to_tensor


@torch.no_grad()
def mask_figures(
    predict: Callable[[Tensor], Tensor],
    images: Image,
    masks: NDArray[np.bool_],
    batch_size: int = 8,
) -> dict[str, float]:
    """Mean F1 at threshold 0.5 over forged images; mean predicted area over pristine ones."""
    scores: list[float] = []
    areas: list[float] = []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        truth = mask_to_tensor(masks[part]) > 0
        found = predict(to_tensor(images[part])) > 0
        for predicted, true in zip(found, truth, strict=True):
            if true.any():
                hits = int((predicted & true).sum())
                scores.append(2 * hits / max(1, int(predicted.sum() + true.sum())))
            else:
                areas.append(float(predicted.float().mean()))
    figures = {"f1": float(np.mean(scores)) if scores else float("nan")}
    if areas:
        figures["false_alarm"] = float(np.mean(areas))
    return figures
