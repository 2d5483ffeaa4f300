"""Attacks × defences on one set of images: each image is attacked once, then every defence judged.

Attacked images are 8-bit files, as an attacker would hand them in, in the cache folder; a second
run with the same images, attack and localizer makes none of them again. On a pristine image the
untargeted attack paints (its mask is empty), hide keeps the mask empty, and wrong-mask paints
another image's mask.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ansm_fast.attacks import Attack
from ansm_fast.data import FolderDataset
from ansm_fast.data.attacked_set import write_attacked_set
from ansm_fast.data.images import Image, read_mask, read_rgb, to_tensor
from ansm_fast.errors import InputError
from ansm_fast.evaluation.defences import make_defence
from ansm_fast.evaluation.metrics import Figures
from ansm_fast.localizers import BuiltinLocalizer
from ansm_fast.models import ANSM

# Name on the command line -> attack and objective.
ATTACKS: dict[str, tuple[str, str]] = {
    "none": ("none", "untargeted"),
    "pgd": ("pgd", "untargeted"),
    "fgsm": ("fgsm", "untargeted"),
    "bim": ("bim", "untargeted"),
    "mifgsm": ("mifgsm", "untargeted"),
    "hide": ("pgd", "hide"),
    "wrong-mask": ("pgd", "wrong-mask"),
    "noise": ("noise", "untargeted"),
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Protocol:
    """What is measured.

    Attributes:
        attacks: of ``ATTACKS``; "none" are the images as they are.
        eps: budgets in units of the image.
        steps: of the iterative attacks; their step size is eps/4, at least eps/steps.
        defences: of "none", "jpeg", "median", "ansm".
        seed: of random starts.
        limit: only the first so many images.
        batch_size: of the attacks; changes the figures by rounding alone.
    """

    attacks: Sequence[str]
    eps: Sequence[float]
    steps: int = 20
    defences: Sequence[str] = ("none", "jpeg", "median", "ansm")
    seed: int = 0
    limit: int | None = None
    batch_size: int = 8

    def runs(self) -> list[tuple[str, Attack | None]]:
        """Every attack at every eps; the unattacked images once."""
        found: list[tuple[str, Attack | None]] = []
        for name in self.attacks:
            if name not in ATTACKS:
                raise InputError(f"attacks must be of {', '.join(ATTACKS)}, got {name!r}")
            if name == "none":
                found.append((name, None))
                continue
            base, objective = ATTACKS[name]
            for eps in dict.fromkeys(self.eps):
                if not 0 <= eps <= 1:
                    raise InputError(f"eps must be in [0, 1], got {eps}; try 4/255")
                found.append(
                    (name, Attack(base, eps, self.steps, objective=objective, seed=self.seed))  # type: ignore[arg-type]
                )
        return found


def cache_folder(
    cache: Path, name: str, attack: Attack, dataset: FolderDataset, fingerprint: str
) -> Path:
    """Where the attacked images are kept: one folder for each attack, localizer and image set.

    The set is told by names and file sizes; that the images are the same too is seen to when the
    folder is used. ``limit`` has no part in it, so that a longer run takes over a shorter one.
    """
    sizes = [
        (one, image.stat().st_size, mask.stat().st_size)
        for one, (image, mask) in zip(dataset.names, dataset.pairs, strict=True)
    ]
    key = json.dumps([attack.settings(), fingerprint, sizes], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return cache / f"{name}-{round(attack.eps * 255, 3):g}-{digest}"


def evaluate(
    dataset: FolderDataset,
    localizer: BuiltinLocalizer,
    ansm: ANSM | None,
    protocol: Protocol,
    cache: Path,
    *,
    on_start: Callable[[str, int], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Row]:
    """Rows of attack, eps, defence, f1, iou, auc, n, area_pristine and n_pristine.

    Args:
        dataset: images and masks; a mask without a forged pixel marks a pristine image.
        localizer: attacked and judged; never changed.
        ansm: for the defence "ansm".
        cache: folder of the attacked images.
        on_start: called with a title and a number of steps before each part of the work.
        on_progress: called with the number of steps done.

    Raises:
        InputError: an unknown attack or defence, eps out of range, unreadable images, or
            a cache of other images.
    """
    runs = protocol.runs()
    defences = {name: make_defence(name, ansm) for name in protocol.defences}
    count = len(dataset) if protocol.limit is None else min(protocol.limit, len(dataset))
    dataset.check(count)
    start = on_start or (lambda title, steps: None)
    advance = on_progress or (lambda done: None)
    rows: list[Row] = []
    for name, attack in runs:
        eps = attack.eps if attack is not None else 0.0
        pairs = dict(zip(dataset.names, dataset.pairs, strict=True))
        if attack is not None:
            start(f"attack {name} {round(eps * 255, 3):g}/255", count)
            attacked = write_attacked_set(
                dataset,
                localizer,
                attack,
                cache_folder(cache, name, attack, dataset, localizer.fingerprint),
                localizer_fingerprint=localizer.fingerprint,
                limit=count,
                batch_size=protocol.batch_size,
                on_progress=advance,
            )
            pairs = dict(zip(attacked.names, attacked.pairs, strict=True))
        start(f"judge {name}", count)
        figures = {defence: Figures() for defence in defences}
        for one in dataset.names[:count]:
            image_path, mask_path = pairs[one]
            image, mask = read_rgb(image_path), torch.from_numpy(read_mask(mask_path))
            for defence, apply in defences.items():
                figures[defence].add(_probability(localizer, apply(image)), mask)
            advance(1)
        rows += [
            {"attack": name, "eps": eps, "defence": defence} | found.summary()
            for defence, found in figures.items()
        ]
    return rows


@torch.inference_mode()
def _probability(localizer: BuiltinLocalizer, image: Image) -> torch.Tensor:
    return torch.sigmoid(localizer(to_tensor(image[None])))[0, 0]
