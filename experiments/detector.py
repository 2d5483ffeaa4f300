"""What does the detector of a two-view ANSM find under noise that was made for other localizers?

    python experiments/detector.py IMAGES -o results/experiments/detector.json

For every localizer, PGD on the true mask and PGD that hides it, and for every ANSM: F1 and pristine
area of the mask that its detector finds, before anything is written, and how much the images look
attacked. IMAGES holds images/ and masks/; an interrupted call goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from result_table import figures, head_of, markdown, parser_of, rows_of, write_result
from torch import Tensor, nn

from ansm_fast.attacks import Attack
from ansm_fast.errors import InputError
from ansm_fast.images.photograph import Image
from ansm_fast.images.tensors import mask_to_tensor, to_tensor
from ansm_fast.localizers import load_localizer
from ansm_fast.models import TwoViewANSM, load_ansm
from ansm_fast.training.batches import MemorySet
from ansm_fast.training.validation import mask_figures

OBJECTIVES = ("untargeted", "hide")


def attacked(localizer: nn.Module, data: MemorySet, objective: str, options: Any) -> Image:
    """The images under PGD on ``localizer``, as files would keep them."""
    attack = Attack("pgd", options.eps / 255, steps=options.steps, objective=objective)  # type: ignore[arg-type]
    parts = []
    for start in range(0, len(data), 8):
        part = slice(start, start + 8)
        image, mask = to_tensor(data.images[part]), mask_to_tensor(data.masks[part])
        made = attack(localizer, image, mask, None, list(range(start, start + len(image))))
        parts.append((made * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.ascontiguousarray(np.concatenate(parts))


def found_by(ansm: TwoViewANSM) -> Callable[[Tensor], Tensor]:
    """Image to the logits of the mask that the detector finds."""
    return lambda image: ansm.detected(ansm.features(image), (image.shape[2], image.shape[3]))


@torch.no_grad()
def measured(ansm: TwoViewANSM, images: Image, data: MemorySet) -> dict[str, float]:
    """F1, pristine area and mean attack score."""
    scores = [float(ansm.attack_score(to_tensor(image[None]))) for image in images]
    return mask_figures(found_by(ansm), images, data.masks) | {"score": float(np.mean(scores))}


def table(document: dict[str, Any]) -> str:
    """Markdown: a row for each ANSM, F1 with the area marked on pristine images in brackets."""
    rows = document["rows"]
    columns = list(dict.fromkeys((row["made_for"], row["objective"]) for row in rows))
    header = ["ANSM", *(f"{one}, {objective}" if objective else one for one, objective in columns)]
    lines = []
    for weights in dict.fromkeys(row["ansm"] for row in rows):
        cells = {
            (row["made_for"], row["objective"]): figures(row["found"])
            for row in rows
            if row["ansm"] == weights
        }
        lines.append([weights, *(cells.get(column, "") for column in columns)])
    return markdown(header, lines)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.set_defaults(steps=15)
    parser.add_argument("--weights", nargs="+", default=["two_view"], help="ANSMs of two views")
    parser.add_argument(
        "--localizers", nargs="+", default=["builtin", "robust"], help="what noise is made for"
    )
    parser.add_argument("--count", type=int, default=40, help="images")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    ansms: dict[str, TwoViewANSM] = {}
    for weights in options.weights:
        ansm = load_ansm(weights).eval()
        if not isinstance(ansm, TwoViewANSM):
            raise InputError(f"--weights {weights} detects nothing; give an ANSM of two views")
        ansms[weights] = ansm
    data = MemorySet(options.images, options.count)
    head = head_of(options, data.images, "")
    rows = rows_of(options.output, head)
    wanted: list[tuple[str, str]] = [("no attack", "")]
    wanted += [(one, objective) for one in options.localizers for objective in OBJECTIVES]
    for name, objective in wanted:
        key = {"made_for": name, "objective": objective}
        images: Image | None = None if objective else data.images
        for weights, ansm in ansms.items():
            mine = {"ansm": weights, "fingerprint": ansm.fingerprint} | key
            if any(row.items() >= mine.items() for row in rows):
                continue
            if images is None:
                localizer = load_localizer(name).eval().requires_grad_(False)
                images = attacked(localizer, data, objective, options)
            rows.append(mine | {"found": measured(ansm, images, data)})
            document = head | {"rows": rows}
            write_result(options.output, document, table(document))
    print(table(head | {"rows": rows}))


if __name__ == "__main__":
    main()
