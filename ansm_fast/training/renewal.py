"""Attack noise that keeps coming: the cache is made anew, part by part, while a training runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ansm_fast.attacks import CountedLocalizer
from ansm_fast.errors import InputError
from ansm_fast.training.ansm_config import ANSMRun
from ansm_fast.training.attack_cache import (
    BATCH,
    AttackCache,
    attack_label,
    attack_part,
    cache_parts,
    read_part,
    renewed_attack,
)
from ansm_fast.training.batches import MemorySet, epoch_indices
from ansm_fast.training.state import disk_errors


class Renewal:
    """Replaces eight images of the cache by the next of the training set every ``run.renew_every``
    steps.

    A fixed set of attacked images is learned by heart. Which images, by what attack and from which
    start depends on the seed and the step alone; what was made lies in ``folder``, so that a
    resumed run does not make it again. The cache's own files stay as they are: runs share them.
    """

    def __init__(
        self,
        run: ANSMRun,
        cache: AttackCache,
        training_set: MemorySet,
        localizer: Callable[[Tensor], Tensor],
        folder: Path,
        device: torch.device | str,
    ) -> None:
        self.run, self.cache, self.set, self.device = run, cache, training_set, device
        self.localizer = CountedLocalizer(localizer)
        self.files = cache_parts(folder, len(cache))
        self._done: int | None = None
        self._seconds = 0.0
        if run.renew_every:
            with disk_errors(folder, "nothing was trained yet"):
                folder.mkdir(parents=True, exist_ok=True)

    def spent(self) -> dict[str, float]:
        """Seconds that attacks have taken, as "renewal"; nothing where none are made."""
        return {"renewal": self._seconds} if self.run.renew_every else {}

    def __call__(self, step: int) -> None:
        """Bring the cache to where it is at ``step``."""
        if not self.run.renew_every:
            return
        due, count = step // self.run.renew_every, len(self.files)
        if self._done is None:
            # Of a run that goes on, the last one of each part is all that matters.
            self._done = max(0, due - count)
        started = time.monotonic()
        for number in range(self._done, due):
            self._renew(number % count, number // count + 1)
        self._seconds += time.monotonic() - started
        self._done = max(due, self._done)

    def _renew(self, part: int, generation: int) -> None:
        path, rows = self.files[part], slice(part * BATCH, (part + 1) * BATCH)
        if not self._is_made(path, generation):
            attack = renewed_attack(self.run, part, generation)
            note = {"generation": str(generation)}
            position = (generation * len(self.files) + part) * BATCH
            indices = epoch_indices(self.run.attack_cache_seed, position, BATCH, len(self.set))
            attack_part(path, attack, indices, self.localizer, self.set, self.device, note)
        made, metadata = read_part(path)
        settings = json.loads(metadata["attack"])
        self.cache.attacked[rows], self.cache.indices[rows] = made["attacked"], made["indices"]
        self.cache.eps[rows] = 255 * settings["eps"]
        self.cache.attacks[rows] = attack_label(settings)
        self.cache.names[rows] = settings["name"]

    @staticmethod
    def _is_made(path: Path, generation: int) -> bool:
        try:
            return path.exists() and read_part(path)[1].get("generation") == str(generation)
        except InputError:
            return False
