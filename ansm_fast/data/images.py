"""Finding photographs and reading them as 8-bit RGB arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ansm_fast.data.decoding import Undecodable, decode, read_content, undecodable
from ansm_fast.data.files import NotAFile, check_regular
from ansm_fast.data.masks import Ambiguous, MaskFile, decode_mask
from ansm_fast.errors import InputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".webp", ".bmp"})
# Images all the same, which are told rather than passed over in silence.
OTHER_SUFFIXES = frozenset({".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".pgm"})

Image = NDArray[np.uint8]


def find_images(folder: str | Path, left_out: dict[str, list[Path]] | None = None) -> list[Path]:
    """All image files below ``folder``, sorted.

    Args:
        left_out: filled, by reason, with what looks like an image and is none that is read: pipes,
            sockets, devices, folders, broken links, hidden files, other formats.

    Raises:
        InputError: there is no such folder, or no image in it.
    """
    folder, left_out = Path(folder), {} if left_out is None else left_out
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}; give a folder that holds photographs")
    found: list[Path] = []
    for path in sorted(folder.rglob("*")):
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES and any(
            part.startswith(".") for part in path.relative_to(folder).parts
        ):
            left_out.setdefault("hidden files are not read", []).append(path)
            continue
        try:
            if suffix in IMAGE_SUFFIXES:
                check_regular(path)
                found.append(path)
            elif suffix in OTHER_SUFFIXES and path.is_file():
                left_out.setdefault(f"{suffix} is not read", []).append(path)
        except NotAFile as error:
            left_out.setdefault(str(error), []).append(path)
        except OSError:
            left_out.setdefault("a broken link", []).append(path)
    if not found:
        others = "".join(f"; {line}" for line in left_out_lines(left_out))
        raise InputError(
            f"no image in {folder}; expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}"
            f"{others}"
        )
    return found


def left_out_lines(left_out: dict[str, list[Path]]) -> list[str]:
    """A line for each file: "left out: photos/a.png is a named pipe"; for formats that aren't read
    and hidden files, of which there may be many, a line for all."""
    lines: list[str] = []
    for reason, paths in left_out.items():
        if reason.endswith("not read"):
            more = f" and {len(paths) - 1} more" if paths[1:] else ""
            lines.append(f"left out: {paths[0]}{more}; {reason}")
        else:
            lines += [f"left out: {path} is {reason}" for path in paths]
    return lines


def decode_rgb(data: bytes, path: str | Path) -> Image:
    """Decode the content of the image at ``path``; see ``read_rgb``."""
    try:
        return decode(data, colour=True)
    except Undecodable as error:
        raise undecodable(path, "image", str(error)) from error


def read_rgb(path: str | Path) -> Image:
    """Decode one image to (H, W, 3) uint8 RGB, as stored: no orientation is applied.

    Alpha is dropped, the first frame or page taken, 16 bits are rounded to 8.

    Raises:
        InputError: it cannot be decoded, or has samples that aren't integers of 8 or 16 bits.
    """
    return decode_rgb(read_content(path, "image"), path)


def decode_mask_file(data: bytes, path: str | Path) -> MaskFile:
    """Decode the content of the mask at ``path``; see ``read_mask``."""
    try:
        return decode_mask(data)
    except Undecodable as error:
        raise undecodable(path, "mask", str(error)) from error
    except Ambiguous as error:
        raise InputError(
            f"mask {path} holds {error}: which pixels are forged cannot be told; save it with two "
            "values, black where the image is pristine and white where it is forged"
        ) from error


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """Decode one mask to (H, W) bool, True where it is forged, as stored, not turned.

    Of two levels the brighter one is forged (0/1, 0/255, 0/65535, black and one colour, a palette
    of two); black alone is pristine, any other level alone all forged. Grey edges between dark and
    bright are split at mid-grey.

    Raises:
        InputError: it cannot be decoded, or which of its levels is forged cannot be told.
    """
    return decode_mask_file(read_content(path, "mask"), path).forged


def to_tensor(images: Image) -> torch.Tensor:
    """(B, H, W, 3) uint8 RGB to (B, 3, H, W) float32 in [0, 1], channels_last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(255)


def mask_to_tensor(masks: NDArray[np.bool_]) -> torch.Tensor:
    """(B, H, W) bool to (B, 1, H, W) float32 in {0, 1}."""
    return torch.from_numpy(np.ascontiguousarray(masks)).unsqueeze(1).float()
