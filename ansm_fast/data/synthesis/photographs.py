"""Where forgeries take their photographs from: folders, whole or one side of a split."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from ansm_fast.data.split import Side, split_sides
from ansm_fast.errors import InputError
from ansm_fast.images.find import find_images
from ansm_fast.images.photograph import Image
from ansm_fast.images.pixels import read_content, read_rgb


@lru_cache(maxsize=256)
def _photograph(path: str) -> Image:
    return read_rgb(path)


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
