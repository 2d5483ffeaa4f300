"""Which compression should an ANSM's gate be on?

    python experiments/compression.py IMAGES -o results/experiments/compression.json

Scores a localizer behind every compression of a grid (quality, blur before it, and cut of what it
changes, all as in ANSMConfig) of IMAGES (images/ and masks/) unattacked and attacked, and behind
none. A gate can give no more than its compression where it is open, so the best one is found
without training. Rows that an earlier call wrote stay. IMAGES are validation images: none that an
evaluation holds out.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from result_table import figures, head_of, markdown, parser_of, rows_of, write_result
from torch import Tensor

from ansm_fast.attacks import Attack
from ansm_fast.data import FolderDataset
from ansm_fast.data.attacked_set import write_attacked_set
from ansm_fast.localizers import load_localizer
from ansm_fast.models.jpeg import JPEGResidual
from ansm_fast.training.batches import MemorySet
from ansm_fast.training.validation import mask_figures

ATTACKS: dict[str, dict[str, Any]] = {
    "pgd": {"name": "pgd"},
    "hide": {"name": "pgd", "objective": "hide"},
    "mifgsm": {"name": "mifgsm"},
    "pgd-l2": {"name": "pgd", "norm": "l2"},
}
SETTING = ("quality", "blur", "cut")


def compression(quality: int, blur: float, cut: int) -> Callable[[Tensor], Tensor]:
    """Image to compressed image, changed by at most ``cut`` grey levels."""
    module, bound = JPEGResidual(quality, blur), cut / 255
    return lambda image: (image + module(image).clamp(-bound, bound)).clamp(0, 1)


def table(document: dict[str, Any]) -> str:
    """Markdown: F1 by compression and attack; the area marked on pristine images in brackets."""
    names = document["attacks"]
    rows = [
        [
            *(str(row[key]) for key in SETTING),
            *(figures(row[name]) for name in names),
        ]
        for row in document["rows"]
    ]
    return markdown([*SETTING, *names], rows)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--quality", type=int, nargs="+", default=[70, 75, 78, 80, 82, 85])
    parser.add_argument("--blur", type=float, nargs="+", default=[0.0, 0.05, 0.07])
    parser.add_argument("--cut", type=int, nargs="+", default=[16, 24, 255], help="grey levels")
    parser.add_argument("--cache", type=Path, default=Path("cache/compression"))
    return parser.parse_args()


def main() -> None:
    options = arguments()
    localizer = load_localizer(options.localizer)
    dataset = FolderDataset(options.images / "images", options.images / "masks")
    sets = {"none": MemorySet(options.images)}
    for name, settings in ATTACKS.items():
        folder = options.cache / f"{name}-{options.eps}-{options.steps}-{localizer.fingerprint}"
        attack = Attack(eps=options.eps / 255, steps=options.steps, **settings)
        write_attacked_set(
            dataset, localizer, attack, folder, localizer_fingerprint=localizer.fingerprint
        )
        sets[name] = MemorySet(folder)

    def scored(defend: Callable[[Tensor], Tensor] | None) -> dict[str, Any]:
        def predict(image: Tensor) -> Tensor:
            return localizer(defend(image) if defend else image)

        with torch.no_grad():
            return {
                name: mask_figures(predict, images.images, images.masks)
                for name, images in sets.items()
            }

    head = head_of(options, sets["none"].images, localizer.fingerprint) | {"attacks": list(sets)}
    grid = itertools.product(options.quality, options.blur, options.cut)
    settings: list[tuple[int, float, int] | None] = [None, *grid]
    rows = rows_of(options.output, head)
    for setting in settings:
        names = dict(zip(SETTING, setting or (None, None, None), strict=True))
        if any(names.items() <= row.items() for row in rows):
            continue
        rows.append(names | scored(compression(*setting) if setting else None))
        document = head | {"rows": rows}
        write_result(options.output, document, table(document))


if __name__ == "__main__":
    main()
