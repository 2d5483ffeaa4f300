"""What is measured on one image, and how images are averaged.

Forged images give F1, IoU and AUC, each of one image's pixels, averaged over images. Pristine
images have nothing to find: there the mean predicted area is what a false alarm costs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_f1_score,
    binary_jaccard_index,
)

THRESHOLD = 0.5


def image_scores(probability: Tensor, mask: Tensor) -> dict[str, float]:
    """F1 and IoU at threshold 0.5 and the area under the ROC curve, of one image's pixels.

    Args:
        probability: (H, W) in [0, 1]. mask: (H, W), true where forged; not empty.
    """
    truth = mask.flatten().int()
    scores = probability.flatten()
    return {
        "f1": float(binary_f1_score(scores, truth, THRESHOLD)),
        "iou": float(binary_jaccard_index(scores, truth, THRESHOLD)),
        "auc": float(binary_auroc(scores, truth)) if not mask.all() else float("nan"),
    }


@dataclass
class Figures:
    """Collects images one by one."""

    forged: list[dict[str, float]] = field(default_factory=list)
    pristine: list[float] = field(default_factory=list)

    def add(self, probability: Tensor, mask: Tensor) -> None:
        """One image: probability and mask, (H, W)."""
        if bool(mask.any()):
            self.forged.append(image_scores(probability, mask))
        else:
            self.pristine.append(float((probability > THRESHOLD).float().mean()))

    def summary(self) -> dict[str, float | int | None]:
        """Means; None where there was no image of the kind."""

        def mean(values: list[float]) -> float | None:
            finite = torch.tensor([value for value in values if value == value])
            return round(float(finite.mean()), 4) if len(finite) else None

        return {
            **{key: mean([one[key] for one in self.forged]) for key in ("f1", "iou", "auc")},
            "n": len(self.forged),
            "area_pristine": mean(self.pristine),
            "n_pristine": len(self.pristine),
        }
