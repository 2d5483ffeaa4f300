"""Does randomness stop an attacker who knows the defence?

    python experiments/randomness.py IMAGES -o results/experiments/randomness.json

Scores a localizer behind a random defence: noise of several strengths, then compression, and the
mean mask of several draws, so that noise may drown what an attack wrote. The adaptive attacker
differentiates all of it and averages over draws (expectation over transformation, Athalye et al.
2018). Each strength's rows are written as they are found, and an interrupted call goes on. IMAGES
(images/ and masks/) are validation images: none that an evaluation holds out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from result_table import figures, head_of, markdown, parser_of, rows_of, write_result
from torch import Tensor

from ansm_fast.attacks import Attack
from ansm_fast.images.photograph import Image
from ansm_fast.images.tensors import mask_to_tensor, to_tensor
from ansm_fast.localizers import load_localizer
from ansm_fast.models.jpeg import JPEGResidual
from ansm_fast.training.batches import MemorySet
from ansm_fast.training.validation import mask_figures

_BATCH = 8
QUALITY, BLUR = 82, 0.07  # the bundled robust ANSM's gate is on this compression

# Name of the row -> attack; whether it goes through the defence.
ATTACKS: dict[str, tuple[dict[str, Any], bool]] = {
    "pgd": ({"name": "pgd"}, False),
    "adaptive": ({"name": "pgd"}, True),
    "adaptive-hide": ({"name": "pgd", "objective": "hide"}, True),
}


class RandomDefence:
    """Image to logits of the mean mask over ``draws`` of noise and compression."""

    def __init__(self, localizer: Callable[[Tensor], Tensor], sigma: float, draws: int) -> None:
        self.localizer, self.sigma, self.draws = localizer, sigma, draws
        self.compress = JPEGResidual(QUALITY, BLUR)

    def once(self, image: Tensor) -> Tensor:
        noisy = (image + torch.randn_like(image) * self.sigma / 255).clamp(0, 1)
        return self.localizer((noisy + self.compress(noisy)).clamp(0, 1))

    def __call__(self, image: Tensor) -> Tensor:
        masks = torch.stack([self.once(image).sigmoid() for _ in range(self.draws)])
        return masks.mean(0).clamp(1e-6, 1 - 1e-6).logit()


def attacked(attack: Attack, victim: Callable[[Tensor], Tensor], data: MemorySet) -> Image:
    """The set's images after ``attack``, as files would keep them."""
    image, mask = to_tensor(data.images), mask_to_tensor(data.masks)
    parts = []
    for start in range(0, len(image), _BATCH):
        one = slice(start, start + _BATCH)
        ids = range(start, min(start + _BATCH, len(image)))
        parts.append(attack(victim, image[one], mask[one], None, ids))
    pixels = (torch.cat(parts) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())


def scored(
    localizer: Callable[[Tensor], Tensor], data: MemorySet, sigma: float, options: Any
) -> dict[str, Any]:
    """F1 and the area marked on pristine images by attack, behind noise of ``sigma`` levels."""
    defence = RandomDefence(localizer, sigma, options.draws)
    found = {"none": mask_figures(defence, data.images, data.masks)}
    for name, (settings, adaptive) in ATTACKS.items():
        eot = options.draws if adaptive and sigma > 0 else 1
        attack = Attack(eps=options.eps / 255, steps=options.steps, eot=eot, **settings)
        images = attacked(attack, defence.once if adaptive else localizer, data)
        found[name] = mask_figures(defence, images, data.masks)
    return found


def table(document: dict[str, Any]) -> str:
    """Markdown: F1 by strength and attack; the area marked on pristine images in brackets."""
    names = ["none", *ATTACKS]
    rows = [
        [
            str(row["sigma"]),
            *(figures(row[name]) for name in names),
        ]
        for row in document["rows"]
    ]
    return markdown(["noise", *names], rows)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument(
        "--sigma", type=float, nargs="+", default=[0.0, 4.0, 8.0, 16.0], help="grey levels"
    )
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--count", type=int, default=16, help="images")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    localizer = load_localizer(options.localizer)
    data = MemorySet(options.images, options.count)
    head = head_of(options, data.images, localizer.fingerprint) | {"draws": options.draws}
    rows = rows_of(options.output, head)
    for sigma in options.sigma:
        if any(row["sigma"] == sigma for row in rows):
            continue
        torch.manual_seed(0)
        rows.append({"sigma": sigma} | scored(localizer, data, sigma, options))
        rows.sort(key=lambda row: row["sigma"])
        document = head | {"rows": rows}
        write_result(options.output, document, table(document))


if __name__ == "__main__":
    main()
