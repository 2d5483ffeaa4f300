"""A folder of images and a folder of masks, matched by file stem."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from ansm_fast.errors import InputError
from ansm_fast.images.find import find_images
from ansm_fast.images.masks import Level, decode_mask_file
from ansm_fast.images.photograph import Image
from ansm_fast.images.pixels import decode_rgb, orientation_of, read_content


class Sample(TypedDict):
    """``image`` (H, W, 3) uint8 RGB, ``mask`` (H, W) bool, ``name`` the path below the folder."""

    name: str
    image: Image
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Contents:
    """What the masks of a set say, and which files carry an orientation that isn't applied.

    Attributes:
        images: how many were looked at; empty, full: masks without a forged pixel, and without
            another.
        turned: files that name an orientation other than 1.
    """

    images: int
    empty: int
    full: int
    turned: tuple[Path, ...] = ()

    def lines(self) -> list[str]:
        """To be printed before the work, since odd masks give odd figures."""
        found = [
            f"{self.images} masks: {self.images - self.empty - self.full} mark a part, "
            f"{self.empty} empty (pristine), {self.full} all forged"
        ]
        if self.turned:
            one = len(self.turned) == 1
            found.append(
                f"{len(self.turned)} {'file carries' if one else 'files carry'} an EXIF "
                f"orientation (first: {self.turned[0]}): images and masks are read as stored, "
                "not turned"
            )
        return found


def _by_stem(folder: Path) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    left_out: dict[str, list[Path]] = {}
    found: dict[str, Path] = {}
    for path in find_images(folder, left_out):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise InputError(f"{found[stem]} and {path} share a name; rename one of them")
        found[stem] = path
    return found, left_out


class FolderDataset:
    """Images and masks of two folders, matched by path without suffix, in sorted order.

    Pixels are as stored, of images and masks alike: an orientation in EXIF or TIFF is not applied.
    See ``read_mask`` for what a mask may hold. One whose only level is neither the darkest nor the
    brightest (all 1, all 128) is all forged, provided that no mask of the set has a level beside it
    and 0.

    Attributes:
        left_out: by reason, what looks like an image and is none, in both folders.

    Raises:
        InputError: a folder is missing or empty, an image has no mask, two files share a name,
            or (on access) a file cannot be decoded, a mask is ambiguous or sizes differ.
    """

    def __init__(self, images: str | Path, masks: str | Path) -> None:
        image_paths, self.left_out = _by_stem(Path(images))
        mask_paths, odd = _by_stem(Path(masks))
        missing = [stem for stem in image_paths if stem not in mask_paths]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(image_paths)} images in {images} have no mask in {masks} "
                f"(first: {missing[0]}{_looked_for(Path(masks), missing[0], mask_paths, odd)}); "
                "masks must carry the image's name"
            )
        for reason, paths in odd.items():
            self.left_out.setdefault(reason, []).extend(paths)
        self.names = list(image_paths)
        self.pairs = [(image_paths[stem], mask_paths[stem]) for stem in self.names]
        self._lock = threading.Lock()
        self._only_levels: dict[Level, Path | None] = {}
        self._pixels: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.pairs)

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Return the mask alone, without decoding its image."""
        path = self.pairs[index][1]
        return self._decode_mask(read_content(path, "mask"), path)

    def _decode_mask(self, data: bytes, path: Path) -> NDArray[np.bool_]:
        found = decode_mask_file(data, path)
        if found.uniform is not None and (other := self._other_levels(found.uniform)) is not None:
            value = "/".join(map(str, found.uniform))
            raise InputError(
                f"mask {path} holds {value} alone, and {other} other values: whether it is all "
                "forged cannot be told; save it all black (pristine) or all white (forged)"
            )
        return found.forged

    def _other_levels(self, level: Level) -> Path | None:
        """The first mask of the set that holds more than 0 and ``level``; None if none does."""
        with self._lock:
            if level not in self._only_levels:
                allowed = {level, (0,), tuple(0 for _ in level)}  # black may be grey or RGB
                self._only_levels[level] = None
                for _, path in self.pairs:
                    levels = decode_mask_file(read_content(path, "mask"), path).levels
                    if not levels or not allowed.issuperset(levels):
                        self._only_levels[level] = path
                        break
            return self._only_levels[level]

    def check(self, count: int) -> Contents:
        """Decode the first ``count`` images and masks: errors come before the work, not amid it."""
        empty = full = 0
        turned: list[Path] = []
        for index in range(count):
            sample, found = self.examine(index)
            empty += not sample["mask"].any()
            full += bool(sample["mask"].all())
            turned += found
        return Contents(count, empty, full, tuple(turned))

    def examine(self, index: int) -> tuple[Sample, list[Path]]:
        """Return a sample, and which of its two files carry an orientation."""
        contents = self._contents(index)
        files = zip(self.pairs[index], contents, strict=True)
        return self._sample(index, contents), [p for p, d in files if orientation_of(d) != 1]

    def _contents(self, index: int) -> tuple[bytes, bytes]:
        image_path, mask_path = self.pairs[index]
        return read_content(image_path, "image"), read_content(mask_path, "mask")

    def _sample(self, index: int, contents: tuple[bytes, bytes]) -> Sample:
        image_path, mask_path = self.pairs[index]
        image = decode_rgb(contents[0], image_path)
        mask = self._decode_mask(contents[1], mask_path)
        if image.shape[:2] != mask.shape:
            raise InputError(
                f"mask {mask_path} is {mask.shape[1]}x{mask.shape[0]} but its image is "
                f"{image.shape[1]}x{image.shape[0]}{_turned(self.pairs[index], contents)}; "
                "masks must have their image's size"
            )
        self._pixels[index] = mask.size
        return {"name": self.names[index], "image": image, "mask": mask}

    def pixels(self, index: int) -> int:
        """Count an image's pixels; one that was read before isn't read again."""
        if index not in self._pixels:
            self[index]
        return self._pixels[index]

    def __getitem__(self, index: int) -> Sample:
        return self._sample(index, self._contents(index))


def _turned(pair: tuple[Path, Path], contents: tuple[bytes, bytes]) -> str:
    """That one of two files is stored lying on its side, which another program may not show."""
    for path, data in zip(pair, contents, strict=True):
        orientation = orientation_of(data)
        if orientation >= 5:
            return (
                f" as stored, and {path.name} carries the EXIF orientation {orientation}, which is "
                "not applied: turn its pixels (ImageOps.exif_transpose of Pillow, or exiftran) and "
                "save it without"
            )
    return ""


def _looked_for(
    folder: Path, stem: str, masks: dict[str, Path], left_out: dict[str, list[Path]]
) -> str:
    """What there is instead of the mask of an image."""
    for reason, paths in left_out.items():
        for path in paths:
            if path.relative_to(folder).with_suffix("").as_posix() == stem:
                return f"; {path.name} is {reason.removeprefix(f'{path.suffix.lower()} is ')}"
    similar = next((path for name, path in masks.items() if name.startswith(stem)), None)
    if similar is not None:
        return f"; found {similar.name}, expected {Path(stem).name}{similar.suffix}"
    return ""
