"""One synthetic forgery: splice, copy-move, removal, or a pristine photograph.

The finished image is cropped and never resized: resizing would wipe out the traces that a
localizer reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from ansm_fast.data.synthesis import traces
from ansm_fast.data.synthesis.regions import random_region
from ansm_fast.images.photograph import Image

KINDS = ("splice", "copy-move", "removal", "pristine")


@dataclass(frozen=True)
class ForgeryMix:
    """Shares of the kinds of forgery and of the final compression.

    ``final_jpeg`` is the share of finished images that are compressed once more, at a quality
    drawn from ``final_quality``. Kinds are drawn in proportion to their weights.
    """

    splice: float = 0.45
    copy_move: float = 0.2
    removal: float = 0.2
    pristine: float = 0.15
    final_jpeg: float = 0.2
    final_quality: tuple[int, int] = (92, 99)
    area: tuple[float, float] = (0.05, 0.3)

    def weights(self) -> NDArray[np.float64]:
        shares = np.array([self.splice, self.copy_move, self.removal, self.pristine], np.float64)
        return shares / shares.sum()


@dataclass(frozen=True)
class Forgery:
    """``image`` (H, W, 3) uint8 RGB, ``mask`` (H, W) bool and how it was made."""

    image: Image
    mask: NDArray[np.bool_]
    kind: str
    traces: list[str] = field(default_factory=list)
    final_quality: int | None = None


PhotographSource = Callable[[np.random.Generator], Image]


def random_crop(rng: np.random.Generator, photograph: Image, size: int) -> Image:
    """Crop size x size; large photographs are first brought to a random smaller scale."""
    shortest = min(photograph.shape[:2])
    if shortest < size:
        scale = (size + 1) / shortest
        photograph = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    elif rng.random() < 0.5:
        smallest = min(1.0, max((size + 1) / shortest, min(0.6, 640 / shortest)))
        scale = rng.uniform(smallest, 1.0)
        if scale * shortest >= size + 1:
            photograph = cv2.resize(
                photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
            )
    height, width = photograph.shape[:2]
    top = int(rng.integers(0, height - size + 1))
    left = int(rng.integers(0, width - size + 1))
    crop = photograph[top : top + size, left : left + size]
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def _cover(rng: np.random.Generator, image: Image, size: int) -> Image:
    """A size x size cut of ``image``, mirrored at its borders if it is too small."""
    missing_y, missing_x = (max(0, size - side) for side in image.shape[:2])
    if missing_y or missing_x:
        image = cv2.copyMakeBorder(image, 0, missing_y, 0, missing_x, cv2.BORDER_REFLECT)
    top = int(rng.integers(0, image.shape[0] - size + 1))
    left = int(rng.integers(0, image.shape[1] - size + 1))
    return image[top : top + size, left : left + size]


def _paste(rng: np.random.Generator, host: Image, donor: Image, mask: NDArray[np.bool_]) -> Image:
    """Blend ``donor`` into ``host`` where ``mask`` is set, with a hard or slightly soft edge."""
    weight = mask.astype(np.float32)
    feather = (0.0, 0.0, 0.6, 1.0)[int(rng.integers(4))]
    if feather:
        weight = cv2.GaussianBlur(weight, (0, 0), feather)
    weight = weight[..., None]
    return np.clip(np.rint(host * (1 - weight) + donor * weight), 0, 255).astype(np.uint8)


def _splice(
    rng: np.random.Generator, host: Image, source: PhotographSource, mix: ForgeryMix
) -> tuple[Image, NDArray[np.bool_], list[str]]:
    size = host.shape[0]
    mask = random_region(rng, size, mix.area)
    donor, applied = traces.random_traces(rng, random_crop(rng, source(rng), size))
    if rng.random() < 0.3:
        donor, applied = traces.tone(rng, donor), [*applied, "tone"]
    return _paste(rng, host, _cover(rng, donor, size), mask), mask, applied


def _copy_move(
    rng: np.random.Generator, host: Image, mix: ForgeryMix
) -> tuple[Image, NDArray[np.bool_], list[str]]:
    size = host.shape[0]
    mask = random_region(rng, size, (mix.area[0], min(mix.area[1], 0.2)))
    donor, applied = traces.random_traces(rng, host)
    donor = _cover(rng, donor, size)
    shift = rng.choice([-1, 1], 2) * rng.integers(size // 6, size // 2, 2)
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    donor = cv2.warpAffine(
        donor, move, (size, size), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT
    )
    return _paste(rng, host, donor, mask), mask, applied


def _removal(
    rng: np.random.Generator, host: Image, mix: ForgeryMix
) -> tuple[Image, NDArray[np.bool_], list[str]]:
    size = host.shape[0]
    mask = random_region(rng, size, (mix.area[0], min(mix.area[1], 0.16)))
    if rng.random() < 0.6:
        # Inpainting at half size fills a hole several times faster and smoother.
        half = cv2.resize(host, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        hole = cv2.resize(mask.astype(np.uint8), half.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        hole = cv2.dilate(hole, np.ones((3, 3), np.uint8))
        method = cv2.INPAINT_TELEA if rng.random() < 0.5 else cv2.INPAINT_NS
        filled = cv2.inpaint(half, hole, 3, method)
        filler, applied = cv2.resize(filled, (size, size)), ["inpaint"]
    else:
        filler, applied = cv2.medianBlur(host, int(rng.choice([7, 11, 15, 21]))), ["median"]
    if rng.random() < 0.3:
        filler = traces.gaussian_noise(rng, filler, rng.uniform(0.5, 2.0))
        applied.append("noise")
    return _paste(rng, host, filler, mask), mask, applied


def make_forgery(
    rng: np.random.Generator,
    source: PhotographSource,
    size: int = 256,
    mix: ForgeryMix | None = None,
    kind: str | None = None,
) -> Forgery:
    """Make one size x size forgery.

    Args:
        rng: the only source of randomness; the same state gives the same forgery.
        source: called with ``rng``, returns a photograph (H, W, 3) uint8 RGB; hosts and donors.
        size: height and width of the result.
        mix: shares of kinds and compression.
        kind: one of "splice", "copy-move", "removal", "pristine"; drawn from ``mix`` if None.

    Raises:
        ValueError: for an unknown ``kind``.
    """
    mix = mix or ForgeryMix()
    if kind is None:
        kind = KINDS[int(rng.choice(len(KINDS), p=mix.weights()))]
    host = random_crop(rng, source(rng), size)
    # Hosts differ in their own history too, so that a localizer learns inconsistency, not JPEG.
    if rng.random() < 0.5:
        host = traces.jpeg(host, int(rng.integers(80, 99)))
    if rng.random() < 0.05:
        host = _cover(rng, traces.random_traces(rng, host)[0], size)

    mask = np.zeros((size, size), bool)
    applied: list[str] = []
    if kind == "splice":
        host, mask, applied = _splice(rng, host, source, mix)
    elif kind == "copy-move":
        host, mask, applied = _copy_move(rng, host, mix)
    elif kind == "removal":
        host, mask, applied = _removal(rng, host, mix)
    elif kind != "pristine":
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")

    quality = None
    if rng.random() < mix.final_jpeg:
        quality = int(rng.integers(mix.final_quality[0], mix.final_quality[1] + 1))
        host = traces.jpeg(host, quality)
    return Forgery(np.ascontiguousarray(host), mask, kind, applied, quality)
