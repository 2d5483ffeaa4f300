"""What an attacked set says of each of its images: lines of its metadata.jsonl."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ansm_fast import json_lines
from ansm_fast.data.folder import FolderDataset
from ansm_fast.errors import InputError
from ansm_fast.json_lines import Record

# The parts of a set, and the field of a record that tells what was written there.
PARTS = {"images": "attacked_sha256", "masks": "mask_sha256"}


def source_digest(dataset: FolderDataset, index: int) -> str:
    """SHA-256 over an image and its mask, shortened to 16 hex digits."""
    digest = hashlib.sha256()
    for path in dataset.pairs[index]:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def mark(path: Path) -> str:
    """Compute the SHA-256 of one file, shortened in the same way."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def written(out: Path, name: str) -> dict[str, Path]:
    """Return the files of an image in ``out``, by the field of its record that holds their
    checksum."""
    return {field: out / part / f"{name}.png" for part, field in PARTS.items()}


def check_kept(out: Path, record: Record) -> None:
    """See that the files of a record are as they were written; of those that are missing, and in
    sets of versions that recorded nothing of it, there is nothing to see.

    Raises:
        InputError: one was changed.
    """
    for field, path in written(out, record["name"]).items():
        if field in record and path.exists() and mark(path) != record[field]:
            raise InputError(
                f"{path} was changed since it was written; remove it to have it made again, or "
                "give another output folder"
            )


def read_records(path: Path) -> dict[str, Record]:
    """Lines by image name; those that a killed run left cut short are passed over."""
    found = json_lines.read(path)
    return {one["name"]: one for one in found if {"name", "sha256"} <= one.keys()}


def lines(records: dict[str, Record]) -> str:
    """Write records as ``read_records`` reads them."""
    return json_lines.text_of(records.values())
