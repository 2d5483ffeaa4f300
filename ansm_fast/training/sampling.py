"""Which attacked images a step sees: the curriculum, and the share of pristine ones."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ansm_fast.training.attack_config import CurriculumConfig
from ansm_fast.training.batches import epoch_indices, step_rng

Indices = NDArray[np.int64]


def curriculum_eps(config: CurriculumConfig, step: int, steps: int, largest: float) -> float:
    """Bound of the noise in a step, in grey levels; infinite once the ramp is over."""
    ramp = config.ramp * steps
    if step >= ramp:
        return math.inf
    return config.eps_start + (largest - config.eps_start) * step / ramp


class AttackSampler:
    """Indices into an attack cache; what a step gets depends on (seed, step) alone.

    After the ramp of the curriculum every entry comes once an epoch, during it entries within the
    bound come at random (those of the least noise while nothing is within it).

    Args:
        eps: noise of each entry in grey levels. forged: whether its image holds a forgery. Both are
            read at every step: what they tell may change.
        pristine_share: of the entries in a batch, exact over many batches; None: as cached.
        curriculum, steps: bound of the noise; see ``curriculum_eps``.
    """

    def __init__(
        self,
        seed: int,
        eps: NDArray[np.float64],
        forged: NDArray[np.bool_],
        pristine_share: float | None,
        curriculum: CurriculumConfig,
        steps: int,
    ) -> None:
        self.seed, self.eps, self.curriculum, self.steps = seed, eps, curriculum, steps
        self.forged = forged
        self.pristine_share = pristine_share

    def _groups(self) -> tuple[Indices, ...]:
        """Pristine and forged entries where a share of them is asked for and there are both."""
        kinds = (np.flatnonzero(~self.forged), np.flatnonzero(self.forged))
        if self.pristine_share is None or not all(map(len, kinds)):
            return (np.arange(len(self.eps)),)
        return kinds

    def _counts(self, step: int, size: int, groups: int) -> list[tuple[int, int]]:
        """Position and number of the entries that the step takes of each group."""
        if self.pristine_share is None or groups == 1:
            return [(step * size, size)]
        start, end = (math.floor(k * size * self.pristine_share + 1e-9) for k in (step, step + 1))
        return [(start, end - start), (step * size - start, size - (end - start))]

    def __call__(self, step: int, size: int) -> Indices:
        bound = curriculum_eps(self.curriculum, step, self.steps, float(self.eps.max()))
        rng = step_rng(self.seed, step, purpose=4)
        taken, groups = [], self._groups()
        counts = self._counts(step, size, len(groups))
        for members, (position, count) in zip(groups, counts, strict=True):
            if math.isinf(bound):
                taken.append(members[epoch_indices(self.seed, position, count, len(members))])
                continue
            noise = self.eps[members]
            within = members[noise <= max(bound, noise.min())]
            taken.append(rng.choice(within, count, replace=count > len(within)))
        together = np.concatenate(taken)
        return together if len(taken) == 1 else rng.permutation(together)
