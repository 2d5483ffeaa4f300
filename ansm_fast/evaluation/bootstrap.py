"""Percentile bootstrap over images (Efron & Tibshirani 1993): how sure a mean of images is.

All columns of one call are resampled together, so that the interval of a ratio or a difference of
two means is a paired one. The seed is fixed: the same images give the same interval.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
LEVEL = 0.95
_BLOCK = 4_000_000  # numbers of resampled counts held at a time

Samples = NDArray[np.float64]


def resampled_counts(n: int, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Samples]:
    """How often each of ``n`` images is drawn, (rows, n) a time, ``resamples`` rows in all: drawing
    an image several times is weighting it."""
    rng, step = np.random.default_rng(seed), max(1, _BLOCK // n)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, n, (rows, n)) + np.arange(rows)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        yield counts.astype(np.float64)


def resampled_means(values: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Samples:
    """Means of the columns of ``values`` over ``resamples`` draws of its rows with replacement.

    Args:
        values: (n, k), one row an image; NaN marks a figure that an image does not have.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        (resamples, k); NaN where a draw holds no figure of the column.
    """
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or not len(table):
        raise ValueError(f"values must have shape (n, k) with n >= 1, got {table.shape}")
    there = np.isfinite(table)
    filled, counted = np.where(there, table, 0.0), there.astype(np.float64)
    with np.errstate(invalid="ignore"):
        means = [
            (weights @ filled) / (weights @ counted)
            for weights in resampled_counts(len(table), resamples, seed)
        ]
    return np.concatenate(means) if means else np.empty((0, table.shape[1]))


def interval(samples: ArrayLike, level: float = LEVEL) -> tuple[float, float] | None:
    """Return the central ``level`` of resampled figures; None if none of them is finite."""
    finite = np.asarray(samples, np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return None
    low, high = np.percentile(finite, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def mean_interval(
    values: ArrayLike, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float] | None:
    """Interval of the mean of ``values`` (n,)."""
    column = np.asarray(values, np.float64)[:, None]
    return interval(resampled_means(column, resamples, seed)[:, 0], level)


def paired_ratio(
    numerator: ArrayLike, denominator: ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, tuple[float, float] | None]:
    """Return ``mean(numerator) / mean(denominator)`` of the same images, with its interval.

    NaN, with no interval, where the denominator's mean is 0.
    """
    table = np.stack([np.asarray(numerator, float), np.asarray(denominator, float)], 1)
    above, below = table.mean(0)
    if below == 0:
        return float("nan"), None
    means = resampled_means(table, resamples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(above / below), interval(means[:, 0] / means[:, 1])


def paired_difference(
    one: ArrayLike, other: ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, tuple[float, float] | None]:
    """Return ``mean(one) - mean(other)`` of the same images, with its interval."""
    difference = np.asarray(one, float) - np.asarray(other, float)
    return float(difference.mean()), mean_interval(difference, LEVEL, resamples, seed)
