"""Images that cost a codec and a network what photographs do, from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np


def sizes_of(kind: str, count: int, seed: int = 0) -> Iterator[tuple[int, int]]:
    """Heights and widths: ``kind`` is "HEIGHTxWIDTH", or "LEAST-MOST" for sides between, no size
    twice."""
    if "x" in kind:
        height, width = map(int, kind.split("x"))
        for _ in range(count):
            yield height, width
        return
    least, most = map(int, kind.split("-"))
    rng, seen = np.random.default_rng(seed), set[tuple[int, int]]()
    while len(seen) < count:
        size = tuple(int(side) for side in rng.integers(least, most + 1, 2))
        if size not in seen:
            seen.add(size)  # type: ignore[arg-type]
            yield size  # type: ignore[misc]


def scene(rng: np.random.Generator, side: int) -> np.ndarray:
    """Detail at every scale, as of a landscape, and a sensor's noise: (side, side, 3)."""
    image = np.zeros((side, side, 3), np.float32)
    cells = 4
    while cells < side:
        coarse = rng.standard_normal((cells, cells, 3)).astype(np.float32)
        image += cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC) / cells**0.9
        cells *= 2
    image = 128 + 220 * image + rng.standard_normal(image.shape).astype(np.float32) * 1.5
    return image.clip(0, 255).astype(np.uint8)


def write(folder: Path, sizes: Sequence[tuple[int, int]], seed: int = 0) -> None:
    """One JPEG of quality 90 for each size, cut from a few scenes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    side = max(max(size) for size in sizes)
    scenes = [scene(rng, side + 256) for _ in range(4)]
    for index, (height, width) in enumerate(sizes):
        whole = scenes[index % len(scenes)]
        top, left = (int(place) for place in rng.integers(0, 257, 2))
        part = whole[top : top + height, left : left + width]
        if not cv2.imwrite(str(folder / f"{index:05d}.jpg"), part, [cv2.IMWRITE_JPEG_QUALITY, 90]):
            raise OSError(f"cannot write into {folder}")
