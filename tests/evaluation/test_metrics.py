from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ansm_fast.evaluation import image_scores, score


def test_scores_by_hand() -> None:
    probability = torch.tensor([[0.9, 0.8, 0.4], [0.7, 0.1, 0.2]])
    mask = torch.tensor([[1, 1, 1], [0, 0, 0]]).bool()
    scores = image_scores(probability, mask)  # 2 hits, 1 missed, 1 false
    assert scores["f1"] == pytest.approx(4 / 6)
    assert scores["iou"] == pytest.approx(2 / 4)
    assert scores["mcc"] == pytest.approx((2 * 2 - 1 * 1) / 9)
    assert scores["f1_permuted"] == scores["f1"]
    inverse = image_scores(1 - probability, mask)  # 1 hit, 2 missed, 2 false
    assert inverse["f1"] == pytest.approx(2 / 6) and inverse["mcc"] == pytest.approx(-3 / 9)
    assert inverse["f1_permuted"] == scores["f1"]
    assert scores["auc"] == pytest.approx(8 / 9)  # one of nine pairs in the wrong order
    assert scores["f1_best"] == pytest.approx(6 / 7)  # from 0.4 on: 3 hits, 1 false


def test_a_perfect_mask_and_an_empty_one() -> None:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:5, 2:5] = True
    perfect = dict.fromkeys(("f1", "mcc", "f1_permuted", "f1_best", "iou", "auc"), 1.0)
    assert image_scores(mask.float(), mask) == perfect
    nothing = image_scores(torch.zeros(8, 8), mask)
    assert nothing["f1"] == nothing["mcc"] == 0.0 and nothing["auc"] == 0.5
    everything = image_scores(torch.ones(8, 8), mask)
    assert everything["f1"] == nothing["f1_permuted"] == nothing["f1_best"]
    assert everything["mcc"] == 0.0
    assert nothing["f1_best"] == pytest.approx(2 * 9 / (64 + 9))  # all of it marked
    assert math.isnan(image_scores(torch.ones(2, 2), torch.ones(2, 2).bool())["auc"])


def f1_and_iou(marked: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """2 TP / (2 TP + FP + FN) and TP / (TP + FP + FN)."""
    hits, wrong = int((marked & truth).sum()), int((marked ^ truth).sum())
    return 2 * hits / (2 * hits + wrong), hits / (hits + wrong)


def auc_of_pairs(values: np.ndarray, truth: np.ndarray) -> float:
    """Share of the pairs (forged pixel, other pixel) in the right order; equal ones are half."""
    forged, others = values[truth][:, None], values[~truth][None]
    return float((forged > others).mean() + (forged == others).mean() / 2)


@pytest.mark.parametrize("levels", [3, 40, 100_000])
def test_against_the_definitions_with_and_without_ties(levels) -> None:
    rng = np.random.default_rng(levels)
    for share in (0.01, 0.3, 0.9):
        mask = torch.from_numpy(rng.random((31, 43)) < share)
        mask[0, 0] = True
        noisy = np.clip(rng.random(mask.shape) * 0.8 + 0.2 * mask.numpy(), 0, 1)
        values = np.round(noisy * levels) / levels
        probability = torch.from_numpy(values.astype(np.float32))
        scores, truth = image_scores(probability, mask), mask.numpy().ravel()
        flat = probability.numpy().ravel()
        f1, iou = f1_and_iou(flat > 0.5, truth)
        assert scores["f1"] == pytest.approx(f1, abs=1e-12)
        assert scores["iou"] == pytest.approx(iou, abs=1e-12)
        inverse = f1_and_iou(flat <= 0.5, truth)[0]
        assert scores["f1_permuted"] == pytest.approx(max(f1, inverse), abs=1e-12)
        correlation = np.corrcoef(flat > 0.5, truth)[0, 1]
        assert scores["mcc"] == pytest.approx(np.nan_to_num(correlation), abs=1e-12)
        assert scores["auc"] == pytest.approx(auc_of_pairs(flat, truth), abs=1e-12)
        every = [f1_and_iou(flat >= threshold, truth)[0] for threshold in np.unique(flat)]
        assert scores["f1_best"] == pytest.approx(max(every), abs=1e-12)


def test_scores_that_differ_by_one_ulp_are_told_apart() -> None:
    """Score and truth are sorted as one integer: the lowest bit of the score must not be lost."""
    low = torch.tensor(0.3)
    high = torch.nextafter(low, torch.tensor(1.0))
    mask = torch.tensor([True, False])
    assert image_scores(torch.stack([high, low]), mask)["auc"] == 1.0
    assert image_scores(torch.stack([low, high]), mask)["auc"] == 0.0
    assert image_scores(torch.tensor([0.0, -0.0]), mask)["auc"] == 0.5


def test_a_forged_image_is_scored_and_a_pristine_one_measured() -> None:
    probability = torch.tensor([[0.9, 0.1], [0.6, 0.5]])
    assert score(probability, torch.zeros(2, 2).bool()) == {"area_pristine": 0.5}
    expected = {"f1", "mcc", "f1_permuted", "f1_best", "iou", "auc"}
    assert set(score(probability, torch.eye(2).bool())) == expected


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1])
def test_what_is_no_probability(value) -> None:
    probability, mask = torch.tensor([0.5, value]), torch.tensor([True, False])
    with pytest.raises(ValueError, match=r"numbers in \[0, 1\]"):
        image_scores(probability, mask)
    with pytest.raises(ValueError, match="one shape"):
        image_scores(probability, mask[:1])
    with pytest.raises(ValueError, match="must hold a forged pixel"):
        image_scores(torch.zeros(2), torch.zeros(2).bool())


def test_soft_masks_and_logits_are_refused() -> None:
    probability, mask = torch.rand(4, 4), torch.eye(4)
    for same in (mask.bool(), mask.byte() * 255, mask * 255, mask.double()):
        assert score(probability, same) == score(probability, mask)
    for soft in (mask * 0.4, mask - 1, mask / 0):
        with pytest.raises(ValueError, match=r"mask must be 0 or 1 at every pixel; give mask"):
            score(probability, soft)
    for wrong in (8 * (probability - 0.5), probability / 0):
        with pytest.raises(ValueError, match=r"probability must hold numbers in \[0, 1\]; apply a"):
            score(wrong, torch.zeros(4, 4).bool())
