"""From a defended image to its files and its manifest record."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Protocol

import cv2
import numpy as np
from PIL import Image

from ansm_fast.errors import out_of_memory
from ansm_fast.images.atomic import Occupied
from ansm_fast.images.photograph import Photograph, Pixels
from ansm_fast.images.write import encode, encode_png
from ansm_fast.inference.engine import Defended
from ansm_fast.inference.files import targets
from ansm_fast.inference.form import Form
from ansm_fast.inference.journal import Journal
from ansm_fast.inference.manifest import PARTS, mask_roots
from ansm_fast.inference.profile import stage
from ansm_fast.inference.reading import checksum
from ansm_fast.inference.stores import Place, Store

_ORIENTATION = 274


class Claims(Protocol):
    """What says what may be written over, as the manifest does."""

    journal: Journal

    def is_own(self, place: Place) -> bool:
        """Whether the file at ``place`` is of this program's making."""


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


def why_unwritten(error: Exception) -> str:
    """What an input's failure says of an output that the disk, or memory, did not take; empty for
    any other error, which is a fault of ours."""
    reason = out_of_memory(error) or ""
    if not reason and isinstance(error, OSError):
        reason = error.strerror or str(error)
    return f"cannot be written: {reason}" if reason else ""


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
    manifest: Claims,
    source: str,
    *,
    form: Form = Form(),  # noqa: B008
    original: tuple[bytes, str] | None = None,
    another: Callable[[str], PurePosixPath] | None = None,
) -> dict[str, Any]:
    """Write the output and, with ``masks``, the masks before and after; returns what the
    manifest says about them. The output comes last: where it is, its masks are.

    Args:
        manifest: says what may be written over: what it recorded, and nothing else.
        source: what it calls the input.
        form: what the output is like.
        original: content and suffix of the input, for a form that copies what looks left alone.
        another: gives a further name of a suffix, where ``output`` has another one or is taken;
            without it the first is an error and the second is Occupied.

    Raises:
        Occupied: something else lies where a file was to be written.
        OSError: a file cannot be written; no half-written file is left.
    """
    score = None if result.attack_score is None else round(result.attack_score, 4)
    copied = original is not None and form.is_copied(score)
    after = image.pixels if copied else result.pixels
    record: dict[str, Any] = {
        "output": output,
        "width": image.width,
        "height": image.height,
        "depth": image.depth,
        **perturbation_norms(image.pixels, after),
    }
    if form.copy_below is not None:
        record["defended"] = not copied
    if score is not None:
        record["attack_score"] = score
    contents: dict[str, bytes] = {}
    if masks is not None:
        turned = _orientation(image.exif)
        found = result.mask_before, result.mask_before if copied else result.mask_after
        for part, mask in zip(PARTS[1:], found, strict=True):
            if mask is None:
                raise ValueError("masks were asked for, but the engine has no localizer")
            with stage("encode"):
                contents[part] = encode_png(Photograph(mask[:, :, None], exif=turned))
            record[f"{part}_area"] = round(float((mask > 127).mean()), 6)
    notes: list[str] = []
    if copied and original is not None:
        contents["output"], suffix = original
    else:
        with stage("encode"):
            encoded = encode(replace(image, pixels=after), form.kind, form.effort)
        suffix, notes = encoded.suffix, [image.note, encoded.note]
        contents["output"] = encoded.content
    for part, written in contents.items():
        record[f"{part}_bytes"], record[f"{part}_sha256"] = len(written), checksum(written)
    if note := "; ".join(note for note in notes if note):
        record["note"] = note
    if PurePosixPath(output).suffix != suffix:
        if another is None:
            raise ValueError(f"{output} is no name of a file with the suffix {suffix}")
        output = str(another(suffix))
    while True:
        record["output"] = output
        places = dict(zip(PARTS, targets(store, masks, output), strict=False))
        record |= {part: str(place) for part, place in places.items() if part != "output"}
        try:
            with stage("write"):
                _write(places, contents, record, manifest, source, store, masks)
            return record
        except Occupied:  # since its name was chosen, or the file was changed
            if another is None:
                raise
            output = str(another(suffix))


def _write(
    places: dict[str, Place],
    contents: dict[str, bytes],
    record: dict[str, Any],
    manifest: Claims,
    source: str,
    store: Store,
    masks: Store | None,
) -> None:
    # Before any file is written: masks of an output that gets another name would be left over.
    for place in places.values() if len(places) > 1 else ():
        if place.lies_there() and not manifest.is_own(place):
            raise Occupied(str(place))
    begun = {"input": source}
    begun |= {
        key: value
        for key, value in record.items()
        if key in ("output", "defended") or key.endswith("_sha256")
    }
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
