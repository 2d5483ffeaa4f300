"""Batches of a two-view ANSM's training: what it looks at, and whether that was attacked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ansm_fast.images.photograph import Image
from ansm_fast.images.tensors import mask_to_tensor, to_tensor
from ansm_fast.training.ansm_config import ANSMRun
from ansm_fast.training.attack_cache import AttackCache
from ansm_fast.training.augmentation import augmented_crop
from ansm_fast.training.batches import MemorySet, flip, step_rng
from ansm_fast.training.cached_crops import cached_crops
from ansm_fast.training.online import spread
from ansm_fast.training.sampling import AttackSampler
from ansm_fast.training.two_view_loss import ATTACKED, UNATTACKED, UNDECIDED

# Attacks that ask nothing of the localizer: a camera's noise looks like them.
_HARMLESS_ATTACKS = ("noise",)


class TwoViewBatches:
    """Crops of the attack cache and of its originals; they depend on (seed, step) alone.

    Args:
        renew: called with the step before its batch is made; see ``Renewal``.
        others: attack caches of other localizers, which detection alone learns from.
    """

    def __init__(
        self,
        run: ANSMRun,
        training_set: MemorySet,
        cache: AttackCache,
        renew: Callable[[int], None],
        others: Sequence[AttackCache] = (),
    ) -> None:
        self.run, self.set, self.renew = run, training_set, renew
        self.to_detect = cache.extended(others) if others else cache
        self.cache = cache
        self.samplers = {
            id(each): AttackSampler(
                run.seed,
                each.eps,
                training_set.forged[each.indices],
                run.pristine_share,
                run.curriculum,
                run.steps,
            )
            for each in (self.to_detect, self.cache)
        }

    def __call__(self, step: int) -> tuple[Tensor, ...]:
        """Detection: what is seen, mask, whether it was attacked. Else attacked and original
        images, mask, wrong mask (another image's), numbers for random starts, and which images are
        attacked online."""
        self.renew(step)
        if step < self.run.detect.steps:
            return self._to_detect(step)
        size = self.run.batch_size
        attacked, original, mask, _ = self._crops(self.cache, step, size, self.run.crop)[1]
        return (
            to_tensor(attacked),
            to_tensor(original),
            mask_to_tensor(mask),
            mask_to_tensor(np.roll(mask, 1, axis=0)),
            torch.arange(step * size, (step + 1) * size),
            torch.from_numpy(spread(self.run.online.share, size)),
        )

    def _crops(
        self, cache: AttackCache, step: int, size: int, crop: int
    ) -> tuple[NDArray[np.int64], tuple[Image, Image, NDArray[np.bool_], NDArray[np.bool_]]]:
        """Entries of the cache, and what ``cached_crops`` makes of them."""
        sampler = self.samplers[id(cache)]
        sampler.forged = self.set.forged[cache.indices]
        chosen = sampler(step, size)
        return chosen, cached_crops(self.run, self.set, cache, chosen, step, crop)

    def _to_detect(self, step: int) -> tuple[Tensor, ...]:
        detect, cache = self.run.detect, self.to_detect
        chosen, (attacked, original, mask, moved) = self._crops(
            cache, step, detect.batch_size, detect.crop
        )
        rng = step_rng(self.run.seed, step, purpose=3)
        unattacked = rng.random(len(original)) < detect.original_share
        seen, mask = np.array(attacked), np.array(mask)
        answers = np.full(len(seen), ATTACKED, np.float32)
        # What was made for another image, or for none, attacks nothing.
        answers[moved | np.isin(cache.names[chosen], _HARMLESS_ATTACKS)] = UNDECIDED
        # Less than a level and a half is nothing to be sure of.
        answers[cache.eps[chosen] < 1.5] = UNDECIDED
        for index in np.flatnonzero(unattacked):
            # Any image of the set, of which the cache holds a part.
            drawn = self.set.draw_like(rng, int(cache.indices[chosen[index]]))
            image, truth = augmented_crop(
                rng, self.set.images[drawn], self.set.masks[drawn], seen.shape[1], detect.harmless
            )
            if self.run.mirror:
                (image,), (truth,) = flip(rng, image[None], truth[None])
            seen[index], mask[index] = image, truth
            answers[index] = UNATTACKED
        return to_tensor(seen), mask_to_tensor(mask), torch.from_numpy(answers)
