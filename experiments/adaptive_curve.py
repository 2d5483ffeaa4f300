"""How far does an attacker get who differentiates through the defence, step by step?

    python experiments/adaptive_curve.py IMAGES -o results/experiments/adaptive_curve.json

For every ANSM and objective: the attack's loss, the localizer's F1 and the area that it marks on
pristine images after 0, 1, 2, 5, 10, 20, 50 and 100 steps of PGD through ANSM and localizer. Two
controls tell a masked gradient from a defence: *train*, the attack made while the ANSM normalizes
by the batch (as adversarial training would see it) and scored as it is used, and *floor*, the F1
of marking everything. Each row is written as it is found, and an interrupted call goes on. IMAGES
(images/ and masks/) are validation images: none that an evaluation holds out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from result_table import figures, head_of, markdown, parser_of, rows_of, write_result
from torch import Tensor, nn

from ansm_fast.attacks import attack_loss
from ansm_fast.attacks.objectives import Objective
from ansm_fast.images.tensors import mask_to_tensor, to_tensor
from ansm_fast.localizers import load_localizer
from ansm_fast.models import BaseANSM, load_ansm
from ansm_fast.ops import pgd_step_
from ansm_fast.training.batches import MemorySet
from ansm_fast.training.validation import mask_figures

OBJECTIVES: tuple[Objective, ...] = ("untargeted", "hide", "wrong-mask")
SHOWN = (0, 1, 2, 5, 10, 20, 50, 100)
MODES = ("eval", "train")


def ascent(
    victim: Callable[[Tensor], Tensor],
    image: Tensor,
    loss: Callable[[Tensor], Tensor],
    eps: float,
    steps: int,
) -> Iterator[tuple[int, Tensor, float]]:
    """Yield (step, attacked image, loss a pixel) at the steps that are shown; from the image itself
    on, by a quarter of ``eps`` and, from the tenth step on, by a tenth."""
    attacked = image.clone()
    for step in range(steps + 1):
        asked = attacked.clone().requires_grad_()
        value = loss(victim(asked))
        if step in SHOWN:
            yield step, attacked.clone(), float(value.detach()) / image[:, 0].numel()
        if step < steps:
            (gradient,) = torch.autograd.grad(value, asked)
            alpha = eps / (4 if step < 10 else 10)
            attacked = pgd_step_(attacked, gradient, image, alpha, eps)


def rounded(attacked: Tensor) -> np.ndarray:
    """As files would keep it."""
    pixels = (attacked * 255).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())


def curve(
    localizer: nn.Module,
    ansm: BaseANSM,
    data: MemorySet,
    objective: Objective,
    mode: str,
    options: argparse.Namespace,
) -> list[dict[str, float]]:
    """Loss, F1 and pristine area at the steps that are shown."""
    image, mask = to_tensor(data.images), mask_to_tensor(data.masks)
    wrong = mask.roll(1, 0)

    def defended(seen: Tensor) -> Tensor:
        return localizer(ansm.defend(seen))

    def loss(logits: Tensor) -> Tensor:
        return attack_loss(logits, mask, objective, wrong)

    found = []
    for step, attacked, value in ascent(
        _in_mode(ansm, mode, defended), image, loss, options.eps / 255, options.steps
    ):
        scores = mask_figures(defended, rounded(attacked), data.masks)
        found.append({"step": step, "loss": value, **scores})
    return found


def _in_mode(
    ansm: BaseANSM, mode: str, victim: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """``victim`` with the ANSM in a mode for the length of a call; its statistics stay."""
    for part in ansm.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.0

    def run(seen: Tensor) -> Tensor:
        ansm.train(mode == "train")
        try:
            return victim(seen)
        finally:
            ansm.eval()

    return run


def table(document: dict[str, Any]) -> str:
    """Markdown: F1 by step; the area marked on pristine images in brackets; the loss a pixel at the
    last step beside that of the start."""
    steps = [one["step"] for one in document["rows"][0]["curve"]]
    header = ["ANSM", "objective", "mode", *(f"{step} steps" for step in steps), "loss a pixel"]
    rows = []
    for row in document["rows"]:
        losses = f"{row['curve'][0]['loss']:.2f} to {row['curve'][-1]['loss']:.2f}"
        scores = [figures(one) for one in row["curve"]]
        rows.append([row["ansm"], row["objective"], row["mode"], *scores, losses])
    floor = document["floor"]
    rows.append(["everything marked", "", "", *[f"{floor:.3f}"] * len(steps), ""])
    return markdown(header, rows)


def floor_of(data: MemorySet) -> float:
    """F1 of marking every pixel."""
    return mask_figures(lambda image: torch.ones_like(image[:, :1]), data.images, data.masks)["f1"]


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.set_defaults(steps=100, localizer="builtin")
    parser.add_argument("--weights", nargs="+", default=["two_view"], help="ANSMs")
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=OBJECTIVES)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--count", type=int, default=8, help="images")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    localizer = load_localizer(options.localizer).eval().requires_grad_(False)
    data = MemorySet(options.images, options.count)
    head = head_of(options, data.images, localizer.fingerprint) | {"floor": floor_of(data)}
    rows = rows_of(options.output, head)
    for weights in options.weights:
        ansm = load_ansm(weights).eval().requires_grad_(False)
        for mode in options.modes:
            for objective in options.objectives:
                key = {"ansm": weights, "objective": objective, "mode": mode}
                if any(key.items() <= row.items() for row in rows):
                    continue
                found = curve(localizer, ansm, data, objective, mode, options)
                rows.append(key | {"curve": found})
                document = head | {"rows": rows}
                write_result(options.output, document, table(document))


if __name__ == "__main__":
    main()
