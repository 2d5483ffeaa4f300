from __future__ import annotations

import numpy as np
import pytest

from ansm_fast.evaluation import bootstrap
from ansm_fast.evaluation.bootstrap import (
    interval,
    mean_interval,
    paired_difference,
    paired_ratio,
    resampled_means,
)


def test_intervals_cover_the_true_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        low, high = mean_interval(rng.exponential(1.0, 80), resamples=400, seed=trial)
        hits += low <= 1.0 <= high
    # 95 % less what the percentile bootstrap lacks at 80 skewed values; three standard errors.
    assert 0.89 <= hits / 300 <= 0.985


def test_the_width_is_that_of_the_standard_error() -> None:
    values = np.random.default_rng(1).normal(0, 2, 400)
    low, high = mean_interval(values)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.03)


def test_draws_are_the_same_for_every_column_and_every_block(monkeypatch) -> None:
    table = np.random.default_rng(2).random((30, 2))
    means = resampled_means(table, 100, seed=3)
    assert np.array_equal(means, resampled_means(table, 100, seed=3))
    assert not np.array_equal(means, resampled_means(table, 100, seed=4))
    assert np.allclose(means[:, 1], resampled_means(table[:, 1:], 100, seed=3)[:, 0])
    monkeypatch.setattr(bootstrap, "_BLOCK", 30 * 7)
    assert np.allclose(means, resampled_means(table, 100, seed=3))


def test_figures_that_images_lack_are_left_out() -> None:
    values = [1.0, float("nan"), 1.0, float("nan")]
    assert mean_interval(values) == (1.0, 1.0)
    assert mean_interval([float("nan")] * 3) is None
    assert interval([]) is None
    with pytest.raises(ValueError, match=r"shape \(n, k\)"):
        resampled_means(np.ones(3))


def test_ratios_and_differences_are_paired() -> None:
    before = np.random.default_rng(5).random(50) + 0.1
    share, limits = paired_ratio(0.5 * before, before)
    # Apart, each mean is uncertain by 8 %; together the ratio is certain.
    assert share == pytest.approx(0.5) and limits == pytest.approx((0.5, 0.5))
    gain, limits = paired_difference(before + 0.2, before)
    assert gain == pytest.approx(0.2) and limits == pytest.approx((0.2, 0.2))
    share, limits = paired_ratio(before, np.zeros(50))
    assert np.isnan(share) and limits is None
