"""Attacked images, made once and cached: attacks on a frozen localizer don't depend on the ANSM.

Generating them during training would take half of its time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from safetensors.torch import load_file, save_file
from torch import nn

from ansm_fast.attacks import Attack
from ansm_fast.data.images import mask_to_tensor, to_tensor
from ansm_fast.errors import InputError
from ansm_fast.training.batches import MemorySet, epoch_indices, step_rng
from ansm_fast.training.config import AttackShare

_BATCH = 8


class AttackedPool:
    """``attacked[i]`` is the attacked version of image ``indices[i]`` of the training set."""

    def __init__(self, attacked: np.ndarray, indices: np.ndarray) -> None:
        self.attacked, self.indices = attacked, indices

    def __len__(self) -> int:
        return len(self.indices)


def _attack_of(shares: list[AttackShare], rng: np.random.Generator, seed: int) -> Attack:
    weights = np.array([share.weight for share in shares])
    share = shares[int(rng.choice(len(shares), p=weights / weights.sum()))]
    eps = round(float(rng.uniform(*share.eps))) / 255
    return Attack(
        share.name,
        eps,
        steps=share.steps,
        alpha=eps / 3 if share.steps < 10 else eps / 5,
        objective=share.objective,
        seed=seed,
    )


def build_pool(
    folder: Path,
    localizer: nn.Module,
    training_set: MemorySet,
    shares: list[AttackShare],
    size: int,
    seed: int,
    settings: Mapping[str, object],
) -> AttackedPool:
    """Make or complete the pool in ``folder``, in files of eight images, and load it.

    Raises:
        InputError: the folder holds a pool made with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    card = folder / "pool.json"
    wanted = json.loads(json.dumps(settings))
    if card.exists() and json.loads(card.read_text(encoding="utf-8")) != wanted:
        raise InputError(
            f"{folder} holds attacks made with other settings (see {card}); "
            "give another `pool` folder or remove this one"
        )
    card.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    batches = (size + _BATCH - 1) // _BATCH
    parts = []
    with Progress() as progress:
        bar = progress.add_task("attack pool", total=batches)
        for batch in range(batches):
            path = folder / f"{batch:05d}.safetensors"
            if not path.exists():
                _build_part(path, batch, localizer, training_set, shares, seed)
            parts.append(load_file(path))
            progress.advance(bar)
    attacked = torch.cat([part["attacked"] for part in parts]).numpy()
    return AttackedPool(attacked, torch.cat([part["indices"] for part in parts]).numpy())


def _build_part(
    path: Path,
    batch: int,
    localizer: nn.Module,
    training_set: MemorySet,
    shares: list[AttackShare],
    seed: int,
) -> None:
    indices = epoch_indices(seed, batch * _BATCH, _BATCH, len(training_set))
    rng = step_rng(seed, batch, purpose=2)
    attack = _attack_of(shares, rng, seed)
    image, mask = to_tensor(training_set.images[indices]), training_set.masks[indices]
    # The next image's mask in the batch is as good a wrong mask as any.
    wrong = mask_to_tensor(np.roll(mask, 1, axis=0))
    attacked = attack(localizer, image, mask_to_tensor(mask), wrong, indices.tolist())
    pixels = (attacked * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    temporary = path.with_name(f".{path.name}.tmp")
    save_file({"attacked": pixels, "indices": torch.from_numpy(indices)}, temporary)
    os.replace(temporary, path)
