"""From a defended image to its files and its manifest record."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ansm_fast.inference.encode import encode_png, write_atomically
from ansm_fast.inference.engine import Defended
from ansm_fast.inference.images import Photograph, Pixels

_ORIENTATION = 274


def mask_paths(folder: Path, output: str) -> tuple[Path, Path]:
    """Where the masks before and after go: ``a/b.png`` to ``a/b.before.png``, ``a/b.after.png``."""
    path = folder / output
    return path.with_suffix(".before.png"), path.with_suffix(".after.png")


def perturbation_norms(before: Pixels, after: Pixels) -> dict[str, float]:
    """L-inf norm and root mean square of ``after - before``, in units of the full range."""
    full = float(np.iinfo(before.dtype).max)
    # One row of samples a line: OpenCV's norm wants two dimensions.
    old, new = (pixels.reshape(pixels.shape[0], -1) for pixels in (before, after))
    root = cv2.norm(old, new, cv2.NORM_L2) / math.sqrt(before.size)
    return {
        "perturbation_linf": round(cv2.norm(old, new, cv2.NORM_INF) / full, 6),
        "perturbation_rms": round(root / full, 6),
    }


def _orientation(exif: bytes | None) -> bytes | None:
    """An EXIF block with nothing but the orientation, so that masks turn as their image does."""
    if not exif:
        return None
    whole = Image.Exif()
    try:
        whole.load(exif)
        value = whole.get(_ORIENTATION)
    except Exception:  # a damaged block tells no orientation
        return None
    if value in (None, 1):
        return None
    only = Image.Exif()
    only[_ORIENTATION] = value
    return only.tobytes().removeprefix(b"Exif\0\0")


def write_result(
    image: Photograph, result: Defended, folder: Path, output: str, masks: Path | None
) -> dict[str, Any]:
    """Write the output and, with ``masks``, the masks before and after; returns what the
    manifest says about them. The output comes last: where it is, its masks are.

    Raises:
        OSError: a file cannot be written; no half-written file is left.
    """
    record: dict[str, Any] = {
        "width": image.width,
        "height": image.height,
        "depth": image.depth,
        **perturbation_norms(image.pixels, result.pixels),
    }
    if masks is not None:
        turned = _orientation(image.exif)
        pair = (result.mask_before, result.mask_after)
        for name, path, mask in zip(
            ("before", "after"), mask_paths(masks, output), pair, strict=True
        ):
            if mask is None:
                raise ValueError("masks were asked for, but the engine has no localizer")
            write_atomically(path, encode_png(Photograph(mask[:, :, None], exif=turned)))
            record[f"mask_{name}"] = str(path)
            record[f"mask_{name}_area"] = round(float((mask > 127).mean()), 6)
    encoded = encode_png(replace(image, pixels=result.pixels))
    write_atomically(folder / output, encoded)
    record["output_bytes"] = len(encoded)
    if image.note:
        record["note"] = image.note
    return record
