"""Which pixels of a mask file are forged: what is unambiguous is taken, the rest refused.

Of two levels the brighter one is forged, whatever they are: 0/1, 0/255, 0/65535, two greys, black
and one colour. Further levels between a dark and a bright one are taken where they are edges alone,
as smoothing and JPEG leave them; a label image of several classes is not, nor is a soft map.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from ansm_fast.errors import InputError
from ansm_fast.images.formats import file_format
from ansm_fast.images.photograph import BadImage
from ansm_fast.images.pixels import decode, read_content, to_eight_bits, undecodable

# Of a mask with more than two levels: pixels above one and below the other are its two plateaus.
_DARK, _BRIGHT = 32, 223
# Label images have few levels; their classes may be small. Levels of JPEG are many.
_FEW_LEVELS = 6
_EDGE_WIDTH, _LABEL_EDGE_WIDTH = 8, 2
# From dark to bright within its width: what is less is no edge.
_EDGE_CONTRAST = 128
# How far below the brightest pixel JPEG's ripples may leave the forged plateau.
_RIPPLE = 8
_LISTED = 6

Level = tuple[int, ...]


class Ambiguous(Exception):
    """``str`` says what the mask holds."""


@dataclass
class MaskFile:
    """A decoded mask.

    Attributes:
        forged: (H, W) bool.
        levels: its one level or two, darker first; empty if there are more.
        uniform: its only level, unless that is the darkest or brightest there is. Taken for all
            forged, which holds where its set has no other level but 0; see ``FolderDataset``.
    """

    forged: NDArray[np.bool_]
    levels: tuple[Level, ...] = ()
    uniform: Level | None = None


def decode_mask(data: bytes) -> MaskFile:
    """Decode a mask file, as stored.

    Raises:
        BadImage: it is no image. Ambiguous: which pixels are forged cannot be told.
    """
    pixels = decode(data, colour=False)
    if pixels.size == 0:
        raise Ambiguous("no pixel")
    lossy, pixels = _is_lossy(data), _without_alpha(pixels)
    grey = _as_grey(pixels, 16 if lossy else 0)
    found = _two_colours(pixels) if grey is None else _grey_mask(grey, lossy)
    if len(found.levels) == 1:
        _check_palette(data)
    return found


def _level(value: Any) -> Level:
    return tuple(int(one) for one in np.atleast_1d(value))


def _is_lossy(data: bytes) -> bool:
    form = file_format(data)
    return form == "JPEG" or (form == "WebP" and b"VP8L" not in data)


def _without_alpha(pixels: NDArray[Any]) -> NDArray[Any]:
    """Colours or grey. Where transparency varies, what is transparent must be black as well."""
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return pixels
    colours = np.ascontiguousarray(pixels[:, :, :-1])
    colours = colours[:, :, 0] if colours.shape[2] == 1 else colours
    alpha = np.ascontiguousarray(pixels[:, :, -1])
    if alpha.min() == alpha.max():
        return colours
    opaque = alpha > np.iinfo(alpha.dtype).max // 2
    shown = np.where(opaque if colours.ndim == 2 else opaque[:, :, None], colours, 0)
    if not colours.any() or not np.array_equal(shown, colours):
        raise Ambiguous("transparency that varies, so that either part may be the forged one")
    return colours


def _as_grey(pixels: NDArray[Any], tolerance: int) -> NDArray[Any] | None:
    """(H, W) of grey pixels, or of shades of one pure colour on black; None for other colours."""
    if pixels.ndim == 2:
        return pixels
    channels = cv2.split(pixels)
    lit = [channel for channel in channels if channel.max() > tolerance]
    if not lit:
        return channels[0]
    if all(cv2.norm(channel, lit[0], cv2.NORM_INF) <= tolerance for channel in lit[1:]):
        return lit[0]
    return None


def _two_colours(pixels: NDArray[Any]) -> MaskFile:
    """Black and one colour: which of two others is meant cannot be told."""
    first = pixels[0, 0]
    differs = (pixels != first).any(axis=2)
    if not differs.any():
        level = _level(first)
        return MaskFile(np.ones(differs.shape, bool), (level,), level)
    other = pixels[tuple(np.argwhere(differs)[0])]
    if not (pixels[differs] == other).all() or (first.any() and other.any()):
        raise Ambiguous(_described(pixels))
    levels = (_level(other), _level(first)) if first.any() else (_level(first), _level(other))
    return MaskFile(~differs if first.any() else differs, levels)


def _levels(grey: NDArray[Any]) -> NDArray[Any]:
    if grey.dtype == np.uint8:
        return np.flatnonzero(cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel())
    return np.flatnonzero(np.bincount(grey.ravel()))


def _grey_mask(grey: NDArray[Any], lossy: bool) -> MaskFile:
    low, high, white = int(grey.min()), int(grey.max()), int(np.iinfo(grey.dtype).max)
    if low == high:
        uniform = None if low in (0, white) else (low,)
        return MaskFile(np.full(grey.shape, low > 0), ((low,),), uniform)
    between = cv2.inRange(grey, low + 1, high - 1)
    if not lossy and not between.any():
        return MaskFile(grey == high, ((low,), (high,)))
    few = not lossy and len(_levels(grey)) <= _FEW_LEVELS
    if grey.dtype == np.uint16:
        grey = to_eight_bits(grey)
        low, high = int(grey.min()), int(grey.max())
    if low > _DARK or high < _BRIGHT:
        raise Ambiguous(_described(grey))
    if lossy:  # no such format can hold the labels of classes: all that is dark is one
        between = cv2.inRange(grey, _DARK + 1, _BRIGHT - 1)
    elif not few:
        between = cv2.inRange(grey, low + 1, high - 1 - _RIPPLE)
    if _has_grey_area(grey, between, _LABEL_EDGE_WIDTH if few else _EDGE_WIDTH):
        raise Ambiguous(_described(grey))
    return MaskFile(grey > 127)


def _has_grey_area(grey: NDArray[np.uint8], between: NDArray[np.uint8], edge: int) -> bool:
    """Whether there is a plateau or slope between dark and bright that is wider than an edge."""
    window = np.ones((edge + 1, edge + 1), np.uint8)
    wide = cv2.erode(between, window, borderValue=255)
    if not wide.any():
        return False
    contrast = cv2.subtract(cv2.dilate(grey, window), cv2.erode(grey, window))
    return bool((contrast[wide > 0] < _EDGE_CONTRAST).any())


def _described(pixels: NDArray[Any]) -> str:
    flat = pixels.reshape(-1) if pixels.ndim == 2 else pixels.reshape(-1, pixels.shape[2])
    values = np.unique(flat, axis=0)
    names = [
        str(int(value)) if pixels.ndim == 2 else "#" + "".join(f"{int(c):02x}" for c in value)
        for value in values
    ]
    if len(names) > _LISTED:
        half = _LISTED // 2
        names = [*names[:half], "...", *names[-half:]]
    kind = "value" if pixels.ndim == 2 else "colour"
    return f"{len(values)} {kind}{'s' * (len(values) > 1)} ({', '.join(names)})"


def _check_palette(data: bytes) -> None:
    """Raise Ambiguous if indices differ whose colour in the palette is the same."""
    if not (file_format(data) == "PNG" and data[25:26] == b"\x03"):
        return
    with PillowImage.open(io.BytesIO(data)) as image:
        indices = np.unique(np.asarray(image))
    if len(indices) > 1:
        raise Ambiguous(
            f"{len(indices)} palette entries ({', '.join(map(str, indices[:_LISTED]))}) of one "
            "colour"
        )


def decode_mask_file(data: bytes, path: str | Path) -> MaskFile:
    """Decode the content of the mask at ``path``; see ``read_mask``."""
    try:
        return decode_mask(data)
    except BadImage as error:
        raise undecodable(path, "mask", f"it {error}") from error
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
