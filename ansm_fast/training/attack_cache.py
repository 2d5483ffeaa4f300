"""Attacked images, made once and cached: attacks on a frozen localizer don't depend on the ANSM.

Generating them during training would take half of its time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ansm_fast.attacks import Attack, CountedLocalizer
from ansm_fast.errors import InputError
from ansm_fast.images.atomic import write_text
from ansm_fast.images.photograph import Image
from ansm_fast.images.tensors import mask_to_tensor, to_tensor
from ansm_fast.progress import Progress
from ansm_fast.training.ansm_config import ANSMRun, with_attack_cache
from ansm_fast.training.attack_config import AttackShare
from ansm_fast.training.batches import MemorySet, epoch_indices, step_rng
from ansm_fast.training.state import disk_errors, write_tensors

BATCH = 8


class AttackCache:
    """``attacked[i]`` is the attacked version of image ``indices[i]`` of the training set.

    Attributes:
        eps: budget of each entry's attack, in grey levels.
        attacks: its name and objective, e.g. "pgd_hide".
        names: its name, e.g. "pgd".
        seconds: what making the cache took, all sessions together.
    """

    def __init__(
        self,
        attacked: Image,
        indices: NDArray[np.int64],
        eps: NDArray[np.float64],
        attacks: NDArray[np.str_],
        seconds: float = 0.0,
    ) -> None:
        self.attacked, self.indices, self.eps, self.attacks = attacked, indices, eps, attacks
        self.names = np.array([name.split("_")[0] for name in attacks], dtype="U32")
        self.seconds = seconds

    def __len__(self) -> int:
        return len(self.indices)

    def extended(self, others: Sequence[AttackCache]) -> AttackCache:
        """Return this cache followed by ``others``; what is replaced in this one later, is replaced
        in that too."""
        whole = [self, *others]
        result = AttackCache(
            np.concatenate([cache.attacked for cache in whole]),
            np.concatenate([cache.indices for cache in whole]),
            np.concatenate([cache.eps for cache in whole]),
            np.concatenate([cache.attacks for cache in whole]),
            sum(cache.seconds for cache in whole),
        )
        own = slice(0, len(self))
        self.attacked, self.indices, self.eps = (
            result.attacked[own], result.indices[own], result.eps[own],
        )  # fmt: skip
        self.attacks, self.names = result.attacks[own], result.names[own]
        return result


def attack_of(share: AttackShare, levels: float, seed: int) -> Attack:
    """Make the attack that a configuration describes, with a budget of ``levels`` grey levels."""
    eps = levels / 255
    few = share.steps < 10
    return Attack(
        share.name,
        eps,
        steps=share.steps,
        # Nothing moves within no budget, but a step size must be positive.
        alpha=max(eps, 1e-6) / (3 if few else 5),
        objective=share.objective,  # type: ignore[arg-type]
        norm=share.norm,
        seed=seed,
    )


def _draw(shares: list[AttackShare], rng: np.random.Generator, seed: int) -> Attack:
    weights = np.array([share.weight for share in shares])
    share = shares[int(rng.choice(len(shares), p=weights / weights.sum()))]
    return attack_of(share, round(float(rng.uniform(*share.eps))), seed)


def _card(folder: Path) -> Path:
    """What the cache was made with; in one that an earlier version made, under that one's name."""
    earlier = folder / "pool.json"
    return earlier if earlier.exists() else folder / "attack_cache.json"


def check_attack_cache(folder: Path, settings: Mapping[str, object]) -> None:
    """Raise InputError if ``folder`` holds a cache that was made with other settings."""
    card = _card(folder)
    if not card.exists():
        return
    try:
        found = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{card} cannot be read ({error}); give another `attack_cache` folder or remove this "
            "one"
        ) from error
    if with_attack_cache(found) != json.loads(json.dumps(settings)):
        raise InputError(
            f"{folder} holds attacks made with other settings (see {card}); "
            "give another `attack_cache` folder or remove this one"
        )


def build_attack_cache(
    run: ANSMRun,
    localizer: Callable[[Tensor], Tensor],
    training_set: MemorySet,
    settings: Mapping[str, object],
    device: torch.device | str = "cpu",
) -> None:
    """Make or complete the attack cache of a run, in files of eight images.

    Raises:
        InputError: the folder holds a cache made with other settings, the disk is full, or the
            localizer gives no logits or no gradient (LocalizerError).
    """
    card = _card(run.attack_cache)
    check_attack_cache(run.attack_cache, settings)
    wanted = json.loads(json.dumps(settings))
    with disk_errors(card, "nothing was attacked yet"):
        run.attack_cache.mkdir(parents=True, exist_ok=True)
        write_text(card, json.dumps(wanted, indent=2) + "\n")
    # One for the whole cache: what the first part has shown of the localizer holds for the rest.
    parts, counted = (
        cache_parts(run.attack_cache, run.attack_cache_size),
        CountedLocalizer(localizer),
    )
    done = sum(path.exists() for path in parts)
    with Progress("attack cache", len(parts), unit=f"batches of {BATCH}", done=done) as progress:
        for batch, path in enumerate(parts):
            if not path.exists():
                _build_part(run, path, batch, counted, training_set, device)
                progress.advance()


def load_attack_cache(folder: Path, size: int) -> AttackCache:
    """Read what ``build_attack_cache`` made.

    Raises:
        InputError: a file is damaged.
    """
    attacked, indices, eps, attacks, seconds = [], [], [], [], 0.0
    for path in cache_parts(folder, size):
        part, metadata = read_part(path)
        seconds += float(metadata["seconds"])
        attack = json.loads(metadata["attack"])
        attacked.append(part["attacked"])
        indices.append(part["indices"])
        eps.append(np.full(len(indices[-1]), 255 * attack["eps"]))
        attacks.append(np.full(len(indices[-1]), attack_label(attack)))
    return AttackCache(
        np.concatenate(attacked),
        np.concatenate(indices),
        np.concatenate(eps),
        np.concatenate(attacks),
        seconds,
    )


def attack_label(attack: Mapping[str, Any]) -> str:
    """Name and objective of an attack's settings."""
    return f"{attack['name']}_{attack['objective']}"


def read_part(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read eight images of an attack cache: arrays "attacked" and "indices", and the metadata.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            json.loads(metadata["attack"])
            float(metadata["seconds"])
            return {
                name: opened.get_tensor(name).numpy() for name in ("attacked", "indices")
            }, metadata
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); remove it, and it is made again"
        ) from error


def cache_parts(folder: Path, size: int) -> list[Path]:
    return [folder / f"{batch:05d}.safetensors" for batch in range((size + BATCH - 1) // BATCH)]


def _build_part(
    run: ANSMRun,
    path: Path,
    batch: int,
    localizer: Callable[[Tensor], Tensor],
    training_set: MemorySet,
    device: torch.device | str,
) -> None:
    seed = run.attack_cache_seed
    indices = epoch_indices(seed, batch * BATCH, BATCH, len(training_set))
    attack = _draw(run.attacks, step_rng(seed, batch, purpose=2), seed)
    attack_part(path, attack, indices, localizer, training_set, device)


def renewed_attack(run: ANSMRun, part: int, generation: int) -> Attack:
    """Return the attack of a part of the cache when it is made for the ``generation``-th time
    anew."""
    rng = step_rng(run.seed, part, purpose=1000 + generation)
    return _draw(run.attacks, rng, int(rng.integers(2**31)))


def attack_part(
    path: Path,
    attack: Attack,
    indices: NDArray[np.int64],
    localizer: Callable[[Tensor], Tensor],
    training_set: MemorySet,
    device: torch.device | str,
    note: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Attack images of the training set and write them to a file of the cache, with ``note`` in
    its metadata."""
    started = time.monotonic()
    image, mask = to_tensor(training_set.images[indices]), training_set.masks[indices]
    # The next image's mask in the batch is as good a wrong mask as any.
    wrong = mask_to_tensor(np.roll(mask, 1, axis=0))
    truth = mask_to_tensor(mask).to(device)
    attacked = attack(localizer, image.to(device), truth, wrong.to(device), indices.tolist()).cpu()
    pixels = (attacked * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    metadata = {
        "attack": json.dumps(attack.settings()),
        "seconds": f"{time.monotonic() - started:.3f}",
        **note,
    }
    tensors = {"attacked": pixels, "indices": torch.from_numpy(indices)}
    write_tensors(path, tensors, metadata, "what was attacked before is intact")
