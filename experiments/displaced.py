"""Does noise do its harm where it was not made for?

    python experiments/displaced.py IMAGES -o results/experiments/displaced.json

Attacks images, then mirrors, moves or crops them together with their noise, as a training does to
see more of them, and scores the localizer on what comes out. Unattacked images treated alike stand
beside it. An attack's row is written when it is found, and an interrupted call goes on. IMAGES
(images/ and masks/) are validation images: none that an evaluation holds out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from result_table import figures, head_of, markdown, parser_of, rows_of, write_result

from ansm_fast.localizers import load_localizer
from ansm_fast.training.attack_config import ValidationAttack
from ansm_fast.training.batches import MemorySet
from ansm_fast.training.validation import attacked_images, mask_figures

ATTACKS: dict[str, dict[str, Any]] = {
    "none": {"name": "noise", "eps": 0},
    "pgd": {"name": "pgd"},
    "fgsm": {"name": "fgsm"},
    "hide": {"name": "pgd", "objective": "hide"},
    "wrong-mask": {"name": "pgd", "objective": "wrong-mask"},
    "tifgsm": {"name": "tifgsm"},
}


def _middle(arrays: NDArray[Any]) -> NDArray[Any]:
    """The middle of (B, H, W, ...), three fifths of each side, from even pixels on."""
    rows, columns = (size // 10 * 2 for size in arrays.shape[1:3])
    return arrays[:, rows : arrays.shape[1] - rows, columns : arrays.shape[2] - columns]


PLACES: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "in place": lambda arrays: arrays,
    "mirrored": lambda arrays: arrays[:, :, ::-1],
    "upside down": lambda arrays: arrays[:, ::-1],
    "moved by a pixel": lambda arrays: arrays[:, 1:, 1:],
    "middle alone": _middle,
}


def table(document: dict[str, Any]) -> str:
    """Markdown: F1 by attack and place; the area marked on pristine images in brackets."""
    rows = [[row["attack"], *(figures(row[place]) for place in PLACES)] for row in document["rows"]]
    return markdown(["attack", *PLACES], rows)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--count", type=int, default=40, help="images")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    localizer = load_localizer(options.localizer)
    data = MemorySet(options.images, options.count)
    head = head_of(options, data.images, localizer.fingerprint)
    rows = rows_of(options.output, head)
    for name, settings in ATTACKS.items():
        if any(row["attack"] == name for row in rows):
            continue
        attack = ValidationAttack(**{"eps": options.eps, "steps": options.steps} | settings)
        images = attacked_images(attack, localizer, data)
        row: dict[str, Any] = {"attack": name}
        for place, put in PLACES.items():
            seen, truth = np.ascontiguousarray(put(images)), np.ascontiguousarray(put(data.masks))
            row[place] = mask_figures(localizer, seen, truth)
        rows.append(row)
        document = head | {"rows": rows}
        write_result(options.output, document, table(document))


if __name__ == "__main__":
    main()
