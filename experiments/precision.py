"""What does computing in bf16 or fp16 cost in F1, and what does it gain in time?

    python experiments/precision.py IMAGES -o results/experiments/precision.json

For every ANSM and precision of ``ansm-fast defend``: the localizer's F1 behind it and the area that
it marks on pristine images, unattacked and under PGD on the localizer alone, how many of the
defended pixels differ from those in fp32, and the seconds of a megapixel on one thread. IMAGES
holds images/ and masks/.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from result_table import figures, head_of, markdown, parser_of, rows_of, write_result
from torch import nn

from ansm_fast.attacks import Attack
from ansm_fast.images.photograph import Image, Photograph
from ansm_fast.images.tensors import mask_to_tensor, to_tensor
from ansm_fast.inference import Engine
from ansm_fast.inference.engines import PRECISIONS
from ansm_fast.localizers import load_localizer
from ansm_fast.models import BaseANSM, load_ansm
from ansm_fast.training.batches import MemorySet
from ansm_fast.training.validation import mask_figures


def attacked(localizer: nn.Module, data: MemorySet, eps: int, steps: int) -> Image:
    """The images under PGD, as files would keep them."""
    attack, parts = Attack("pgd", eps / 255, steps=steps), []
    for start in range(0, len(data), 4):
        part = slice(start, start + 4)
        image, mask = to_tensor(data.images[part]), mask_to_tensor(data.masks[part])
        pixels = (attack(localizer, image, mask) * 255).round().to(torch.uint8)
        parts.append(pixels.permute(0, 2, 3, 1).numpy())
    return np.ascontiguousarray(np.concatenate(parts))


def defended(ansm: BaseANSM, precision: str, images: Image) -> tuple[Image, float]:
    """Defended images, and the seconds of a megapixel."""
    engine = Engine(ansm, network="eager", precision=precision)
    engine.defend([Photograph(images[0])])  # the first of a shape takes longer
    started = time.perf_counter()
    found = [engine.defend([Photograph(image)])[0].pixels for image in images]
    seconds = time.perf_counter() - started
    return np.stack(found), seconds / (images[..., 0].size / 1e6)


def measured(
    localizer: nn.Module, ansm: BaseANSM, sets: dict[str, Image], masks: np.ndarray
) -> list[dict[str, Any]]:
    """A row for each precision, fp32 first."""
    rows: list[dict[str, Any]] = []
    exact: dict[str, Image] = {}
    for precision in PRECISIONS:
        row: dict[str, Any] = {"precision": precision}
        for name, images in sets.items():
            pixels, row["seconds_per_megapixel"] = defended(ansm, precision, images)
            differ = (pixels != exact.setdefault(name, pixels)).any(-1).mean()
            row[name] = mask_figures(localizer, pixels, masks) | {"differ": float(differ)}
        rows.append(row)
    return rows


def table(document: dict[str, Any]) -> str:
    """Markdown: F1, the area marked on pristine images in brackets, and the differing pixels."""
    header = ["ANSM", "precision", "unattacked", "PGD", "pixels that differ", "s a megapixel"]
    rows = []
    for row in document["rows"]:
        for one in row["precisions"]:
            differ = f"{100 * max(one['none']['differ'], one['pgd']['differ']):.1f} %"
            scores = [figures(one[name]) for name in ("none", "pgd")]
            speed = f"{one['seconds_per_megapixel']:.2f}"
            rows.append([row["ansm"], one["precision"], *scores, differ, speed])
    return markdown(header, rows)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.set_defaults(localizer="builtin")
    parser.add_argument("--weights", nargs="+", default=["two_view"], help="ANSMs")
    parser.add_argument("--count", type=int, default=24, help="images")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    localizer = load_localizer(options.localizer).eval().requires_grad_(False)
    data = MemorySet(options.images, options.count)
    head = head_of(options, data.images, localizer.fingerprint) | {"torch": torch.__version__}
    rows = rows_of(options.output, head)
    sets = {"none": data.images}
    for weights in options.weights:
        ansm = load_ansm(weights)
        key = {"ansm": weights, "fingerprint": ansm.fingerprint}
        if any(row.items() >= key.items() for row in rows):
            continue
        if "pgd" not in sets:
            sets["pgd"] = attacked(localizer, data, options.eps, options.steps)
        rows.append(key | {"precisions": measured(localizer, ansm, sets, data.masks)})
        document = head | {"rows": rows}
        write_result(options.output, document, table(document))
    print(table(head | {"rows": rows}))


if __name__ == "__main__":
    main()
