"""Makes docs/images/examples.png: what the localizer sees of each example, and sees again.

    python examples/picture.py

A row an example: forged image, truth, and the localizer's probability for the forged image, for
the attacked one, and for the attacked one after the defence.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ansm_fast.data import FolderDataset
from ansm_fast.images.photograph import Photograph
from ansm_fast.inference import Engine
from ansm_fast.localizers import load_localizer
from ansm_fast.models import load_ansm

HERE = Path(__file__).parent
TITLES = ("forged", "truth", "mask of forged", "mask of attacked", "after the defence")
SIDE, GAP, HEAD = 192, 8, 28


def cell(image: np.ndarray) -> np.ndarray:
    """An image or mask as a square RGB tile."""
    shown = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.dstack([shown] * 3) if shown.ndim == 2 else shown


def main() -> None:
    forged = FolderDataset(HERE / "forged" / "images", HERE / "forged" / "masks")
    attacked = FolderDataset(HERE / "attacked" / "images", HERE / "attacked" / "masks")
    engine = Engine(load_ansm(), load_localizer())
    rows = []
    for index in range(len(forged)):
        image, mask = forged[index]["image"], forged[index]["mask"]
        noisy = attacked[index]["image"]
        defended = engine.defend([Photograph(noisy)])[0]
        tiles = [image, mask.astype(np.uint8) * 255, engine.mask(image), defended.mask_before,
                 defended.mask_after]  # fmt: skip
        rows.append([cell(tile) for tile in tiles])
    height = HEAD + len(rows) * (SIDE + GAP)
    canvas = np.full((height, len(TITLES) * (SIDE + GAP) - GAP, 3), 255, np.uint8)
    for column, title in enumerate(TITLES):
        left = column * (SIDE + GAP)
        cv2.putText(canvas, title, (left, HEAD - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1,
                    cv2.LINE_AA)  # fmt: skip
        for row, tiles in enumerate(rows):
            top = HEAD + row * (SIDE + GAP)
            canvas[top : top + SIDE, left : left + SIDE] = tiles[column]
    target = HERE.parent / "docs" / "images" / "examples.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(target), canvas[:, :, ::-1])
    print(target)


if __name__ == "__main__":
    main()
