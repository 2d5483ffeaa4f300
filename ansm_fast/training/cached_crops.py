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
) -> tuple[Image, Image, NDArray[np.bool_], NDArray[np.bool_]]:
    """Attacked images, originals and masks of the ``chosen`` entries of the cache, and which of
    them have noise that was moved. They depend on (seed, step) alone.

    A share of the noise goes to other images, drawn from the whole training set, forged ones for
    forged ones: a cache of some hundred attacks is then seen in front of every image, see
    ``transplant``.
    """
    rng = step_rng(run.seed, step)
    images, masks = training_set.images, training_set.masks
    rows, columns = crop_window(rng, (images.shape[1], images.shape[2]), crop)
    indices = cache.indices[chosen]
    attacked, original = cache.attacked[chosen][:, rows, columns], images[indices][:, rows, columns]
    moved = rng.random(len(indices)) < run.transplant_share
    for place in np.flatnonzero(moved):
        indices[place] = training_set.draw_like(rng, int(indices[place]))
        host = images[indices[place], rows, columns]
        attacked[place] = transplant(rng, attacked[place], original[place], host)
        original[place] = host
    mask = masks[indices][:, rows, columns]
    if run.mirror:
        attacked, original, mask = flip(rng, attacked, original, mask)
    return attacked, original, mask, moved
