"""Crops of cached attacked images and of their originals, cut and mirrored alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ansm_fast.images.photograph import Image
from ansm_fast.training.ansm_config import ANSMRun
from ansm_fast.training.attack_cache import AttackCache
from ansm_fast.training.batches import MemorySet, crop_window, flip, step_rng
from ansm_fast.training.transplant import transplant


def cached_crops(
    run: ANSMRun,
    training_set: MemorySet,
    cache: AttackCache,
    chosen: NDArray[np.int64],
    step: int,
    crop: int,
) -> tuple[Image, Image, NDArray[np.bool_]]:
    """Attacked images, originals and masks of the ``chosen`` entries of the cache; a share of the
    noise is moved between images, see ``transplant``. They depend on (seed, step) alone."""
    rng = step_rng(run.seed, step)
    images, masks = training_set.images, training_set.masks
    rows, columns = crop_window(rng, (images.shape[1], images.shape[2]), crop)
    originals = cache.indices[chosen]
    attacked = cache.attacked[chosen][:, rows, columns]
    original, mask = images[originals][:, rows, columns], masks[originals][:, rows, columns]
    if run.mirror:
        attacked, original, mask = flip(rng, attacked, original, mask)
    return transplant(rng, attacked, original, run.transplant_share), original, mask
