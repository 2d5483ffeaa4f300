"""Attacks made in the step that trains on them: on the localizer, or through the ANSM itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ansm_fast.attacks import Attack, CountedLocalizer, as_found
from ansm_fast.models.jpeg import JPEGResidual
from ansm_fast.training.ansm_config import ANSMRun
from ansm_fast.training.attack_cache import attack_of
from ansm_fast.training.attack_config import (
    CompressionConfig,
    OnlineAttack,
    OnlineConfig,
)
from ansm_fast.training.batches import step_rng
from ansm_fast.training.config import LocalizerRun
from ansm_fast.training.sampling import curriculum_eps


def spread(share: float, count: int) -> np.ndarray:
    """Set ``share`` of ``count`` flags, evenly spread: equal parts get equally many."""
    edges = np.floor(np.arange(count + 1) * share + 1e-9)
    return np.diff(edges) > 0


class OnlineAttacks:
    """Makes the attacks of a step and counts the time.

    Args:
        run: its ``online`` attacks, curriculum and steps; its seed fixes the kind of attack and the
            noise of a step, together with the step.
        localizer: image to logits. defend: image to defended image, by the ANSM.
        learning: what is trained; in eval mode while an attack runs, and then as it was found.
        config: attacks that take the place of the run's.
    """

    def __init__(
        self,
        run: LocalizerRun | ANSMRun,
        localizer: Callable[[Tensor], Tensor],
        defend: Callable[[Tensor], Tensor],
        learning: nn.Module,
        config: OnlineConfig | None = None,
    ) -> None:
        self.run, self.config, self.learning = run, config or run.online, learning
        # Kept over the steps: once a gradient was seen, one of 0 on a few images is no error.
        self._alone = CountedLocalizer(localizer)
        self._behind = CountedLocalizer(lambda image: localizer(defend(image)))
        self._seconds = 0.0

    def spent(self) -> dict[str, float]:
        """Seconds that attacks have taken, as "attack"; nothing where none are made."""
        return {"attack": self._seconds} if self.config.share > 0 else {}

    def choose(self, step: int) -> tuple[OnlineAttack, Attack]:
        """Choose the attack of a step; its budget stays within the curriculum's."""
        rng = step_rng(self.run.seed, step, purpose=5)
        weights = np.array([attack.weight for attack in self.config.attacks])
        chosen = self.config.attacks[int(rng.choice(len(weights), p=weights / weights.sum()))]
        largest = max(attack.eps[1] for attack in self.config.attacks)
        bound = curriculum_eps(self.run.curriculum, step, self.run.steps, largest)
        low, high = (min(value, bound) for value in chosen.eps)
        levels = round(float(rng.uniform(low, high)))
        if levels > bound:  # rounding may have gone past it
            levels = math.floor(bound)
        return chosen, attack_of(chosen, levels, self.run.seed)

    def __call__(
        self, step: int, image: Tensor, mask: Tensor, wrong_mask: Tensor, ids: Tensor
    ) -> Tensor:
        """Attacked versions of ``image``; ``ids`` fix each image's random start."""
        started = self._now(image)
        chosen, attack = self.choose(step)
        victim = self._behind if chosen.adaptive else self._alone
        with as_found(self.learning):
            attacked = attack(victim, image, mask, wrong_mask, ids.tolist())
        self._seconds += self._now(image) - started
        return attacked.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def _now(image: Tensor) -> float:
        if image.is_cuda:
            torch.cuda.synchronize(image.device)
        return time.monotonic()


class OnlineCompression:
    """Compresses the attacked images of a step as a defence would; None leaves them alone."""

    def __init__(self, config: CompressionConfig | None, seed: int) -> None:
        self.config, self.seed = config, seed

    @torch.no_grad()
    def __call__(self, step: int, image: Tensor) -> Tensor:
        if self.config is None:
            return image
        low, high = self.config.quality
        quality = int(step_rng(self.seed, step, purpose=6).integers(low, high + 1))
        change = JPEGResidual(quality, self.config.blur).to(image.device)(image)
        return (image + change).clamp(0, 1)
