"""Where attacked images are kept, and how many are still to be made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ansm_fast.attacks import Attack
from ansm_fast.data import FolderDataset
from ansm_fast.data.set_records import holds_others
from ansm_fast.evaluation.judged import EDITION


def cache_folder(
    cache: Path, label: str, attack: Attack, dataset: FolderDataset, identity: str
) -> Path:
    """Where the attacked images are kept: one folder for each attack, target and image set.

    The set is told by names and file sizes; that the images are the same too is seen to when the
    folder is used. ``limit`` has no part in it, so that a longer run takes over a shorter one.
    Sets alike in names and sizes, as BMP files of one shape are, get folders with a number.
    """
    sizes = [
        (one, image.stat().st_size, mask.stat().st_size)
        for one, (image, mask) in zip(dataset.names, dataset.pairs, strict=True)
    ]
    key = json.dumps([EDITION, attack.settings(), identity, sizes], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    folder = cache / f"{label}-{round(attack.eps * 255, 3):g}-{digest}"
    found, number = folder, 2
    while holds_others(dataset, found):
        found, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return found


def still_to_make(folder: Path, count: int) -> int:
    """How many of ``count`` attacked images a folder lacks."""
    done = sum(1 for _ in (folder / "images").rglob("*.png")) if folder.is_dir() else 0
    return max(0, count - done)
