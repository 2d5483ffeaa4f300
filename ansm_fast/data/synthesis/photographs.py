"""Where forgeries take their photographs from: folders, whole or one side of a split."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from ansm_fast.errors import InputError
from ansm_fast.images.find import find_images
from ansm_fast.images.photograph import Image
from ansm_fast.images.pixels import read_content, read_rgb

Side = Literal["train", "validation"]

# Of 256 values of a digest's first byte those that go to the validation: a tenth.
_VALIDATION = 26


@lru_cache(maxsize=256)
def _photograph(path: str) -> Image:
    return read_rgb(path)


def split_sides(keys: list[bytes]) -> list[Side]:
    """Say on which side of a split each thing stands, by a digest of what it must not share.

    A tenth goes to the validation, on the digest's own account: what else there is does not move
    it, and equal digests stand on one side. If that leaves a side empty, the least digest is the
    validation, or the greatest the training.

    Raises:
        ValueError: fewer than two different digests.
    """
    least, greatest = min(keys, default=b""), max(keys, default=b"")
    if least == greatest:
        raise ValueError("a split needs two different things")
    sides: list[Side] = ["validation" if key[0] < _VALIDATION else "train" for key in keys]
    if "validation" not in sides:
        return ["validation" if key == least else "train" for key in keys]
    if "train" not in sides:
        return ["train" if key == greatest else "validation" for key in keys]
    return sides


class FolderSource:
    """Draws photographs, each first-level subfolder of ``root`` as likely as the next.

    Without that, the largest collection in the folder would dominate the forgeries.

    Args:
        side: draw from this side of the photographs alone, told apart by their content: the two
            share none, copies under other names included.

    Raises:
        InputError: no photographs, or too few for two sides.
    """

    def __init__(self, root: str | Path, side: Side | None = None) -> None:
        self.root = Path(root)
        self.left_out: dict[str, list[Path]] = {}
        paths = find_images(self.root, self.left_out)
        if side is not None:
            digests = [hashlib.sha256(read_content(path, "image")).digest() for path in paths]
            try:
                sides = split_sides(digests)
            except ValueError as error:
                raise InputError(
                    f"{root} holds one photograph or copies of one, and training and validation "
                    "must share none; give a folder with more of them, or leave --validation out"
                ) from error
            paths = [path for path, one in zip(paths, sides, strict=True) if one == side]
        groups: dict[str, list[str]] = {}
        for path in paths:
            relative = path.relative_to(self.root)
            group = relative.parts[0] if len(relative.parts) > 1 else ""
            groups.setdefault(group, []).append(str(path))
        self._groups = [groups[name] for name in sorted(groups)]

    def draw(self, rng: np.random.Generator) -> str:
        """Draw the path of a photograph."""
        group = self._groups[int(rng.integers(len(self._groups)))]
        return group[int(rng.integers(len(group)))]


class Drawn:
    """Photographs of a source for one forgery.

    Attributes:
        names: what was drawn so far, as paths below the source's folder.
    """

    def __init__(self, source: FolderSource) -> None:
        self.source = source
        self.names: list[str] = []

    def __call__(self, rng: np.random.Generator) -> Image:
        path = self.source.draw(rng)
        name = Path(path).relative_to(self.source.root).as_posix()
        if name not in self.names:
            self.names.append(name)
        return _photograph(path)
