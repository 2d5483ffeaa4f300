"""How much of the truth do attacks write into their noise, and how much does a defence read there?

    python experiments/leak.py TRAIN HELD_OUT -o results/experiments/leak.json

TRAIN and HELD_OUT are folders with images/ and masks/. Two measurements:

- A probe, a small network that sees the noise alone (attacked minus original, nothing of the
  image), learns on TRAIN to predict the true mask, and is scored on HELD_OUT. Its F1 against that
  of a mask that says nothing (all forged) is what the noise gives away, whoever reads it.
- The wrong-mask attack: if a defence reads masks out of noise, the localizer's mask of the defended
  image follows the *wrong* mask. Its F1 against the wrong mask, compared with the same figure of
  the unattacked image (chance), is what this defence reads.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ansm_fast.attacks import Attack
from ansm_fast.data import FolderDataset
from ansm_fast.data.attacked_set import write_attacked_set
from ansm_fast.data.wrong_mask import wrong_mask
from ansm_fast.evaluation.bootstrap import mean_interval
from ansm_fast.images.atomic import write_text
from ansm_fast.images.masks import read_mask
from ansm_fast.images.pixels import read_rgb
from ansm_fast.images.tensors import mask_to_tensor, to_tensor
from ansm_fast.localizers import (
    BuiltinLocalizer,
    LocalizerConfig,
    TrainableLocalizer,
    load_localizer,
)
from ansm_fast.models import load_ansm
from ansm_fast.ops import bce_dice_loss

ATTACKS: dict[str, tuple[str, str]] = {
    "pgd": ("pgd", "untargeted"),
    "fgsm": ("fgsm", "untargeted"),
    "mifgsm": ("mifgsm", "untargeted"),
    "hide": ("pgd", "hide"),
    "wrong-mask": ("pgd", "wrong-mask"),
    "own-prediction": ("pgd", "own-prediction"),
    "universal": ("universal", "untargeted"),
    "noise": ("noise", "untargeted"),
}
CROP, BATCH = 128, 12


@dataclass
class Noise:
    """Noise of a set of attacked images in grey levels (N, H, W, 3), and the true masks."""

    levels: NDArray[np.int16]
    masks: NDArray[np.bool_]


def read_noise(original: FolderDataset, attacked: FolderDataset, count: int) -> Noise:
    levels, masks = [], []
    for index in range(count):
        before, after = (read_rgb(one.pairs[index][0]) for one in (original, attacked))
        levels.append(after.astype(np.int16) - before)
        masks.append(read_mask(original.pairs[index][1]))
    size = min(min(mask.shape) for mask in masks)
    return Noise(*(np.stack([one[:size, :size] for one in part]) for part in (levels, masks)))


def as_image(levels: NDArray[np.int16], eps: float) -> Tensor:
    """Noise as an image of the probe: no noise is mid-grey, the whole budget black or white."""
    scaled = np.ascontiguousarray(levels).astype(np.float32) / (2 * round(eps * 255)) + 0.5
    return torch.from_numpy(scaled).permute(0, 3, 1, 2).clamp(0, 1)


def train_probe(noise: Noise, eps: float, steps: int, seed: int) -> BuiltinLocalizer:
    torch.manual_seed(seed)
    probe = BuiltinLocalizer(LocalizerConfig((16, 24, 40, 56))).train()
    optimizer = torch.optim.AdamW(probe.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    rng = np.random.default_rng(seed)
    span = noise.masks.shape[1] - CROP
    for _ in range(steps):
        chosen = rng.integers(0, len(noise.masks), BATCH)
        top, left = 2 * rng.integers(0, span // 2 + 1, 2)
        part = (chosen, slice(top, top + CROP), slice(left, left + CROP))
        logits = probe(as_image(noise.levels[part], eps))
        loss = bce_dice_loss(logits, mask_to_tensor(noise.masks[part]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return probe.eval()


def f1(predicted: Tensor, truth: Tensor) -> list[float]:
    """F1 of each image with a forged pixel; (N, 1, H, W) bool."""
    hits = (predicted & truth).sum((1, 2, 3)).double()
    total = predicted.sum((1, 2, 3)) + truth.sum((1, 2, 3))
    forged = truth.flatten(1).any(1)
    return (2 * hits / total.clamp(min=1))[forged].tolist()


@torch.no_grad()
def predicted(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.cat([network(part) > 0 for part in images.split(8)])


def measured(values: list[float]) -> dict[str, float]:
    """Mean with its 95 % interval over images."""
    low, high = mean_interval(values) or (math.nan, math.nan)
    return {"f1": round(float(np.mean(values)), 4), "low": round(low, 4), "high": round(high, 4)}


def probe_row(train: Noise, held_out: Noise, eps: float, steps: int, seeds: int) -> dict[str, Any]:
    truth = mask_to_tensor(held_out.masks) > 0
    images = as_image(held_out.levels, eps)
    scores = np.mean(
        [
            f1(predicted(train_probe(train, eps, steps, seed), images), truth)
            for seed in range(seeds)
        ],
        axis=0,
    )
    return {
        "probe": measured(scores.tolist()),
        "all_forged": measured(f1(torch.ones_like(truth), truth)),
    }


@torch.no_grad()
def follows_wrong_mask(
    dataset: FolderDataset,
    attacked: FolderDataset,
    count: int,
    defences: Mapping[str, Callable[[Tensor], Tensor]],
    localizer: TrainableLocalizer,
) -> dict[str, dict[str, dict[str, float]]]:
    """F1 against the truth and against the wrong mask, of attacked and of original images."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in defences}
    for index in range(count):
        sample = dataset[index]
        if not sample["mask"].any():
            continue
        truth, wrong = (
            mask_to_tensor(mask[None]) > 0 for mask in (sample["mask"], wrong_mask(dataset, index))
        )
        images = {"attacked": read_rgb(attacked.pairs[index][0]), "original": sample["image"]}
        for kind, image in images.items():
            for name, defend in defences.items():
                mask = localizer(defend(to_tensor(image[None]))) > 0
                found[name].setdefault(f"{kind}, truth", []).extend(f1(mask, truth))
                found[name].setdefault(f"{kind}, wrong mask", []).extend(f1(mask, wrong))
    return {
        name: {key: measured(values) for key, values in row.items()} for name, row in found.items()
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("train", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("cache/leak"), help="attacked images")
    parser.add_argument("--localizer")
    parser.add_argument("--weights", type=Path, help="ANSM; the bundled one by default")
    parser.add_argument("--eps", type=int, default=4, help="grey levels")
    parser.add_argument("--steps", type=int, default=10, help="of the attacks")
    parser.add_argument("--train-count", type=int, default=480)
    parser.add_argument("--held-out-count", type=int, default=200)
    parser.add_argument("--probe-steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=1, help="probes an attack")
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    return parser.parse_args()


def main() -> None:
    options = arguments()
    localizer, ansm = load_localizer(options.localizer), load_ansm(options.weights)
    sets = {
        name: (FolderDataset(folder / "images", folder / "masks"), count)
        for name, folder, count in (
            ("train", options.train, options.train_count),
            ("held_out", options.held_out, options.held_out_count),
        )
    }
    eps = options.eps / 255
    document: dict[str, Any] = {
        "eps": eps,
        "steps": options.steps,
        "localizer": localizer.fingerprint,
        "ansm": ansm.fingerprint,
        "rows": {},
    }
    defences = {"none": lambda image: image, "ansm": ansm.defend}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for name in options.attacks.split(","):
        base, objective = ATTACKS[name]
        attack = Attack(base, eps, options.steps, objective=objective)  # type: ignore[arg-type]
        noise, attacked = {}, {}
        for part, (dataset, limit) in sets.items():
            count = min(limit, len(dataset))
            attacked[part] = write_attacked_set(
                dataset,
                localizer,
                attack,
                options.cache / localizer.fingerprint / f"{part}-{name}-{options.eps}",
                localizer_fingerprint=localizer.fingerprint,
                limit=count,
            )
            noise[part] = read_noise(dataset, attacked[part], count)
        row = probe_row(noise["train"], noise["held_out"], eps, options.probe_steps, options.seeds)
        if name == "wrong-mask":
            count = len(noise["held_out"].masks)
            row |= {
                f"follows, {defence}": figures
                for defence, figures in follows_wrong_mask(
                    sets["held_out"][0], attacked["held_out"], count, defences, localizer
                ).items()
            }
        document["rows"][name] = row
        print(name, json.dumps(row), flush=True)
        write_text(options.output, json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
