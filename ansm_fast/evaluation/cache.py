"""Where attacked images are kept, and how many are still to be made."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from ansm_fast.attacks import Attack
from ansm_fast.data import FolderDataset

# Part of every folder name; to be raised when an attack of unchanged settings gives other images,
# or when images and masks are read otherwise.
EDITION = 2


def _sizes(dataset: FolderDataset) -> list[tuple[str, int, int]]:
    return [
        (one, image.stat().st_size, mask.stat().st_size)
        for one, (image, mask) in zip(dataset.names, dataset.pairs, strict=True)
    ]


def cache_folder(
    cache: Path, label: str, attack: Attack, dataset: FolderDataset, identity: str
) -> Path:
    """Return where the attacked images are kept: one folder for each attack, target and image set.

    The set is told by names and file sizes; that the images are the same too is seen to when the
    folder is used. ``limit`` has no part in it, so that a longer run takes over a shorter one.
    """
    key = json.dumps([EDITION, attack.settings(), identity, _sizes(dataset)], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return cache / f"{label}-{round(attack.eps * 255, 3):g}-{digest}"


def folders_of_sets(cache: Path, datasets: Mapping[str, FolderDataset]) -> dict[str, Path]:
    """By set, what ``cache_folder`` is given: ``cache``; of sets that it cannot tell apart, as BMP
    files of one shape have one size, a folder below it for each."""
    marks = {name: _sizes(dataset) for name, dataset in datasets.items()}
    return {
        name: cache
        if list(marks.values()).count(mark) == 1
        else cache / f"set-{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}"
        for name, mark in marks.items()
    }


def still_to_make(folder: Path, count: int) -> int:
    """Count how many of ``count`` attacked images a folder lacks."""
    done = sum(1 for _ in (folder / "images").rglob("*.png")) if folder.is_dir() else 0
    return max(0, count - done)
