"""What is measured on one image: F1, MCC, IoU and the area under the ROC curve of its pixels.

Forged images give F1, Matthews correlation and IoU at threshold 0.5, F1 of the better of the mask
and its inverse (`f1_permuted`, the convention of TruFor's tables), F1 at the threshold that is best
for this very image (`f1_best`, an upper bound that no detector reaches without knowing the truth)
and AUC. Pristine images have nothing to find: there the predicted area is what a false alarm costs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

THRESHOLD = 0.5

Scores = dict[str, float]


def _flat(probability: Tensor, mask: Tensor) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    if probability.shape != mask.shape:
        raise ValueError(
            f"probability and mask must have one shape, got {tuple(probability.shape)} "
            f"and {tuple(mask.shape)}"
        )
    truth = mask.cpu().numpy().ravel()
    if mask.is_floating_point() and not ((truth == 0) | (truth == 1) | (truth == 255)).all():
        raise ValueError("mask must be 0 or 1 at every pixel; give mask > 0.5 of a soft one")
    return _scores(probability), truth.astype(bool)


def _scores(probability: Tensor) -> NDArray[np.float32]:
    scores: NDArray[np.float32] = probability.detach().float().cpu().numpy().ravel()
    # Written so that NaN fails as well.
    if not (scores.size and scores.min() >= 0 and scores.max() <= 1):
        raise ValueError("probability must hold numbers in [0, 1]; apply a sigmoid to logits")
    return scores


def _ranked(
    scores: NDArray[np.float32], truth: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of pixels and of forged pixels up to each distinct score, in rising order.

    A float32 in [0, 1] has at most 30 bits that order as its value does, so score and truth sort
    together as one 32-bit integer: several times faster than sorting indices.
    """
    keys = np.ascontiguousarray(scores + np.float32(0)).view(np.uint32) << np.uint32(1)
    keys |= truth
    keys.sort()
    values = keys >> np.uint32(1)
    ends = np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)
    forged = np.cumsum(keys & np.uint32(1), dtype=np.int64)[ends]
    return ends + 1, forged


def image_scores(probability: Tensor, mask: Tensor) -> Scores:
    """Compute F1, MCC, permuted F1, best F1, IoU and AUC of one forged image's pixels.

    Where the probability is above 0.5: ``f1 = 2 TP / (2 TP + FP + FN)``,
    ``iou = TP / (TP + FP + FN)``, ``mcc = (TP TN - FP FN) / sqrt((TP + FP) (TP + FN) (TN + FP)
    (TN + FN))``, 0 where that is 0 / 0, as of a mask that marks everything or nothing;
    ``f1_permuted`` is the larger of ``f1`` and that of the inverted mask; ``f1_best`` is the
    largest F1 over all thresholds; ``auc`` is the probability that a forged pixel scores above
    another one, ties counting half (NaN if every pixel is forged).

    Args:
        probability: (H, W) in [0, 1], compared as float32.
        mask: (H, W), true where forged; not empty. Whole numbers are forged where not 0, floats
            must be 0 and 1 (or 255).

    Raises:
        ValueError: different shapes, a probability outside [0, 1], or a soft mask.
    """
    scores, truth = _flat(probability, mask)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives:
        raise ValueError("mask must hold a forged pixel; see predicted_area for pristine images")
    predicted = scores > THRESHOLD
    hits, marked = int((predicted & truth).sum()), int(predicted.sum())
    upto, forged = _ranked(scores, truth)
    below = np.append(0, upto[:-1])
    forged_below = np.append(0, forged[:-1])
    best = float((2 * (positives - forged_below) / (len(scores) - below + positives)).max())
    auc = float("nan")
    if negatives:
        here = forged - forged_below
        other_below = below - forged_below
        other_here = upto - below - here
        auc = float((here * (other_below + other_here / 2)).sum() / (positives * negatives))
    f1 = 2 * hits / (marked + positives)
    inverse = 2 * (positives - hits) / (len(scores) - marked + positives)
    return {
        "f1": f1,
        "mcc": _mcc(hits, marked, positives, len(scores)),
        "f1_permuted": max(f1, inverse),
        "f1_best": best,
        "iou": hits / (marked + positives - hits),
        "auc": auc,
    }


def _mcc(hits: int, marked: int, positives: int, pixels: int) -> float:
    """Of whole numbers, whose products Python keeps exactly."""
    spread = marked * positives * (pixels - marked) * (pixels - positives)
    return (hits * pixels - marked * positives) / math.sqrt(spread) if spread else 0.0


def predicted_area(probability: Tensor) -> float:
    """Share of the pixels whose probability is above 0.5.

    Raises:
        ValueError: a probability outside [0, 1].
    """
    return float((_scores(probability) > THRESHOLD).mean())


def score(probability: Tensor, mask: Tensor) -> Scores:
    """Compute ``image_scores`` of a forged image, ``area_pristine`` of one with an empty mask."""
    if bool(mask.any()):  # NaN too, which is then refused
        return image_scores(probability, mask)
    return {"area_pristine": predicted_area(probability)}
