"""The probe finds what is in the noise, and nothing where nothing is."""

from __future__ import annotations

import leak
import numpy as np
import pytest
import torch

EPS = 4 / 255


def noise(count: int, seed: int, written: bool) -> leak.Noise:
    """Random signs; with the mask written into the noise, squares where the sign is constant."""
    rng = np.random.default_rng(seed)
    levels = rng.choice([-4, 4], (count, 144, 144, 3)).astype(np.int16)
    masks = np.zeros((count, 144, 144), bool)
    for one, mask in zip(levels, masks, strict=True):
        top, left = rng.integers(0, 84, 2)
        mask[top : top + 60, left : left + 60] = True
        if written:
            one[mask] = 4
    return leak.Noise(levels, masks)


@pytest.mark.parametrize("written", [True, False])
def test_the_probe_reads_a_written_mask_and_no_other(written) -> None:
    row = leak.probe_row(noise(24, 0, written), noise(12, 1, written), EPS, steps=40, seeds=1)
    if written:
        assert row["probe"]["f1"] > 0.9
    else:
        assert row["probe"]["f1"] < row["all_forged"]["f1"] + 0.1
    assert row["probe"]["low"] <= row["probe"]["f1"] <= row["probe"]["high"]


def test_f1_is_over_forged_images_alone() -> None:
    truth = torch.zeros(3, 1, 4, 4, dtype=torch.bool)
    truth[0, 0, :2], truth[1, 0, :, :2] = True, True
    guess = torch.zeros_like(truth)
    guess[0, 0, :1], guess[2] = True, True
    assert leak.f1(guess, truth) == pytest.approx([2 * 4 / (4 + 8), 0.0])
