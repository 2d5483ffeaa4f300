"""Batches of a single-view ANSM's training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ansm_fast.images.photograph import Image
from ansm_fast.images.tensors import mask_to_tensor, to_tensor
from ansm_fast.training.ansm_config import ANSMRun
from ansm_fast.training.attack_cache import AttackCache
from ansm_fast.training.batches import MemorySet, step_rng
from ansm_fast.training.cached_crops import cached_crops
from ansm_fast.training.online import spread
from ansm_fast.training.sampling import AttackSampler


class ANSMBatches:
    """Crops of the attack cache and of its originals; they depend on (seed, step) alone."""

    def __init__(self, run: ANSMRun, training_set: MemorySet, cache: AttackCache) -> None:
        self.run, self.set, self.cache = run, training_set, cache
        forged = training_set.forged[cache.indices]
        self.sampler = AttackSampler(
            run.seed, cache.eps, forged, run.pristine_share, run.curriculum, run.steps
        )

    def _images(self, step: int, size: int, crop: int) -> tuple[Image, Image, NDArray[np.bool_]]:
        chosen = self.sampler(step, size)
        return cached_crops(self.run, self.set, self.cache, chosen, step, crop)[:3]

    def __call__(self, step: int) -> tuple[Tensor, ...]:
        """Detection: what is seen, mask. Else attacked and original images, mask, wrong mask
        (another image's), numbers for random starts, and which images are attacked online."""
        detect, size = self.run.detect, self.run.batch_size
        if step < detect.steps:
            attacked, original, mask = self._images(step, detect.batch_size, detect.crop)
            return to_tensor(
                self._left_alone(step, attacked, original, detect.original_share)
            ), mask_to_tensor(mask)
        attacked, original, mask = self._images(step, size, self.run.crop)
        attacked = self._left_alone(step, attacked, original, self.run.unattacked_share)
        return (
            to_tensor(attacked),
            to_tensor(original),
            mask_to_tensor(mask),
            mask_to_tensor(np.roll(mask, 1, axis=0)),
            torch.arange(step * size, (step + 1) * size),
            torch.from_numpy(spread(self.run.online.share, size)),
        )

    def _left_alone(self, step: int, attacked: Image, original: Image, share: float) -> Image:
        clean = step_rng(self.run.seed, step, purpose=3).random(len(original)) < share
        return np.where(clean[:, None, None, None], original, attacked)
