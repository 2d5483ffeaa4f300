"""From a defended image to its files and its manifest record."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ansm_fast.images.atomic import Occupied
from ansm_fast.images.photograph import Photograph, Pixels
from ansm_fast.images.write import encode_png
from ansm_fast.inference.engine import Defended
from ansm_fast.inference.files import targets
from ansm_fast.inference.manifest import PARTS, Manifest, mask_roots
from ansm_fast.inference.reading import checksum
from ansm_fast.inference.stores import Place, Store

_ORIENTATION = 274


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
    image: Photograph,
    result: Defended,
    store: Store,
    output: str,
    masks: Store | None,
    manifest: Manifest,
    source: str,
) -> dict[str, Any]:
    """Write the output and, with ``masks``, the masks before and after; returns what the
    manifest says about them. The output comes last: where it is, its masks are.

    Args:
        manifest: says what may be written over: what it recorded, and nothing else.
        source: what it calls the input.

    Raises:
        Occupied: something else lies where a file was to be written.
        OSError: a file cannot be written; no half-written file is left.
    """
    record: dict[str, Any] = {
        "output": output,
        "width": image.width,
        "height": image.height,
        "depth": image.depth,
        **perturbation_norms(image.pixels, result.pixels),
    }
    if result.attack_score is not None:
        record["attack_score"] = round(result.attack_score, 4)
    places = dict(zip(PARTS, targets(store, masks, output), strict=False))
    contents: dict[str, bytes] = {}
    if masks is not None:
        turned = _orientation(image.exif)
        for part, mask in zip(PARTS[1:], (result.mask_before, result.mask_after), strict=True):
            if mask is None:
                raise ValueError("masks were asked for, but the engine has no localizer")
            contents[part] = encode_png(Photograph(mask[:, :, None], exif=turned))
            record[part] = str(places[part])
            record[f"{part}_area"] = round(float((mask > 127).mean()), 6)
    contents["output"] = encode_png(replace(image, pixels=result.pixels))
    for part, content in contents.items():
        record[f"{part}_bytes"], record[f"{part}_sha256"] = len(content), checksum(content)
    if image.note:
        record["note"] = image.note
    _write(places, contents, record, manifest, source, store, masks)
    return record


def _write(
    places: dict[str, Place],
    contents: dict[str, bytes],
    record: dict[str, Any],
    manifest: Manifest,
    source: str,
    store: Store,
    masks: Store | None,
) -> None:
    # Before any file is written: masks of an output that gets another name would be left over.
    for place in places.values() if len(places) > 1 else ():
        if place.lies_there() and not manifest.is_own(place):
            raise Occupied(str(place))
    begun = {"input": source, "output": record["output"]}
    begun |= {key: value for key, value in record.items() if key.endswith("_sha256")}
    if masks is not None:
        begun["masks"] = mask_roots(store, masks)[0]
    manifest.journal.begin(begun)
    written: list[Place] = []
    try:
        for part, content in contents.items():
            place = places[part]
            place.write(content, partial(manifest.is_own, place), manifest.journal.token)
            written.append(place)
    except BaseException:
        for place in written:  # masks without their output
            place.remove()
        raise
