"""What masks reach that know nothing of the image: a figure counts only beside these."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ansm_fast.evaluation.metrics import Scores, score

# Name -> title in tables; where a row has the name of a defence, a floor has its own.
FLOORS = {"all-marked": "all marked forged", "none-marked": "nothing marked"}


def floor_scores(mask: NDArray[np.bool_]) -> dict[str, Scores]:
    """Score a mask that marks every pixel as forged, and one that marks none, against (H, W)."""
    truth = torch.from_numpy(mask)
    marks = {"all-marked": 1.0, "none-marked": 0.0}
    return {name: score(torch.full(truth.shape, value), truth) for name, value in marks.items()}
