"""A folder of images and a folder of masks, matched by file stem."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from ansm_fast.data.images import Image, find_images, read_mask, read_rgb
from ansm_fast.errors import InputError


class Sample(TypedDict):
    """``image`` (H, W, 3) uint8 RGB, ``mask`` (H, W) bool, ``name`` the path below the folder."""

    name: str
    image: Image
    mask: NDArray[np.bool_]


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in find_images(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise InputError(f"{found[stem]} and {path} share a name; rename one of them")
        found[stem] = path
    return found


class FolderDataset:
    """Images and masks of two folders, matched by path without suffix, in sorted order.

    Raises:
        InputError: a folder is missing or empty, an image has no mask, two files share a name,
            or (on access) a file cannot be decoded or sizes differ.
    """

    def __init__(self, images: str | Path, masks: str | Path) -> None:
        image_paths, mask_paths = _by_stem(Path(images)), _by_stem(Path(masks))
        missing = [stem for stem in image_paths if stem not in mask_paths]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(image_paths)} images in {images} have no mask in {masks} "
                f"(first: {missing[0]}); masks must carry the image's name"
            )
        self.names = list(image_paths)
        self.pairs = [(image_paths[stem], mask_paths[stem]) for stem in self.names]

    def __len__(self) -> int:
        return len(self.pairs)

    def mask(self, index: int) -> NDArray[np.bool_]:
        """The mask alone, without decoding its image."""
        return read_mask(self.pairs[index][1])

    def check(self, count: int) -> None:
        """Decode the first ``count`` images and masks: errors come before the work, not amid it."""
        for index in range(count):
            self[index]

    def __getitem__(self, index: int) -> Sample:
        image_path, mask_path = self.pairs[index]
        image, mask = read_rgb(image_path), read_mask(mask_path)
        if image.shape[:2] != mask.shape:
            raise InputError(
                f"mask {mask_path} is {mask.shape[1]}x{mask.shape[0]} but its image is "
                f"{image.shape[1]}x{image.shape[0]}; masks must have their image's size"
            )
        return {"name": self.names[index], "image": image, "mask": mask}
