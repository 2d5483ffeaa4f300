"""The two sides of a split, training and validation, which share no photograph."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from ansm_fast import json_lines
from ansm_fast.data.folder import FolderDataset
from ansm_fast.errors import InputError
from ansm_fast.images.pixels import read_content

Side = Literal["train", "validation"]

# Of 256 values of a digest's first byte those that go to the validation: a tenth.
_VALIDATION = 26


def split_sides(keys: list[bytes]) -> list[Side]:
    """Say on which side of a split each thing stands, by a digest of what it must not share.

    A tenth goes to the validation, on the digest's own account: what else there is does not move
    it, and equal digests stand on one side. If that leaves a side empty, the least digest is the
    validation, or the greatest the training.

    Raises:
        ValueError: fewer than two different digests.
    """
    least, greatest = min(keys, default=b""), max(keys, default=b"")
    if least == greatest:
        raise ValueError("a split needs two different things")
    sides: list[Side] = ["validation" if key[0] < _VALIDATION else "train" for key in keys]
    if "validation" not in sides:
        return ["validation" if key == least else "train" for key in keys]
    if "train" not in sides:
        return ["train" if key == greatest else "validation" for key in keys]
    return sides


def _photographs(root: Path) -> dict[str, list[str]]:
    """What the set's metadata.jsonl says: image to the photographs that it was made of."""
    found: dict[str, list[str]] = {}
    for record in json_lines.read(root / "metadata.jsonl"):
        names = record.get("photographs")
        if isinstance(names, list) and names and all(isinstance(one, str) for one in names):
            found[str(record.get("name"))] = names
    return found


def split_set(dataset: FolderDataset, root: Path) -> list[Side | None]:
    """Say on which side each image of a set stands: by the photographs that it was made of, if
    ``root/metadata.jsonl`` names them for every image, else by the content of its file.

    None: it was made of photographs of both sides.

    Raises:
        InputError: too few for two sides.
    """
    known, names = _photographs(root), dataset.names
    try:
        if not all(name in known for name in names):
            digests = [_digest(read_content(image, "image")) for image, _ in dataset.pairs]
            return list(split_sides(digests))
        photographs = sorted({one for name in names for one in known[name]})
        sides = split_sides([_digest(one.encode()) for one in photographs])
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{root} holds too little to keep a part for the validation; give a folder with more "
            "photographs, or one with train/ and validation/"
        ) from error
    side_of = dict(zip(photographs, sides, strict=True))
    found: list[Side | None] = []
    for name in names:
        one, *others = {side_of[photograph] for photograph in known[name]}
        found.append(None if others else one)
    return found


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
