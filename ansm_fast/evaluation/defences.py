"""What is done to an image before the localizer sees it: nothing, JPEG, a median, an ANSM."""

from __future__ import annotations

from collections.abc import Callable

import cv2

from ansm_fast.data.images import Image
from ansm_fast.data.synthesis.traces import jpeg
from ansm_fast.errors import InputError
from ansm_fast.inference import Engine
from ansm_fast.inference.images import Photograph
from ansm_fast.models import ANSM

JPEG_QUALITY = 75
MEDIAN_SIZE = 3
TITLES = {
    "none": "no defence",
    "jpeg": f"JPEG-{JPEG_QUALITY}",
    "median": f"median {MEDIAN_SIZE}×{MEDIAN_SIZE}",
    "ansm": "ANSM",
}
DEFENCES = tuple(TITLES)

# 8-bit RGB images (H, W, 3) in and out, as a platform would keep them in files.
Defence = Callable[[Image], Image]


def recompress(image: Image) -> Image:
    return jpeg(image, JPEG_QUALITY)


def smooth(image: Image) -> Image:
    return cv2.medianBlur(image, MEDIAN_SIZE)


def make_defence(name: str, ansm: ANSM | None) -> Defence:
    """A defence by name; "ansm" needs one."""
    if name == "none":
        return lambda image: image
    if name == "jpeg":
        return recompress
    if name == "median":
        return smooth
    if name != "ansm":
        raise InputError(f"defences must be of {', '.join(DEFENCES)}, got {name!r}")
    if ansm is None:
        raise InputError("the defence 'ansm' needs weights; give --weights FILE")
    engine = Engine(ansm)

    def defend(image: Image) -> Image:
        return engine.defend([Photograph(image)])[0].pixels

    return defend
