from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from ansm_fast.errors import InputError
from ansm_fast.evaluation import Figures, image_scores, make_defence
from ansm_fast.evaluation.defences import recompress, smooth
from ansm_fast.models import ANSM


def test_scores_by_hand() -> None:
    probability = torch.tensor([[0.9, 0.8, 0.4], [0.7, 0.1, 0.2]])
    mask = torch.tensor([[1, 1, 1], [0, 0, 0]]).bool()
    scores = image_scores(probability, mask)  # 2 hits, 1 missed, 1 false
    assert scores["f1"] == pytest.approx(4 / 6)
    assert scores["iou"] == pytest.approx(2 / 4)
    assert scores["auc"] == pytest.approx(8 / 9)  # one of nine pairs in the wrong order


def test_a_perfect_mask_and_an_empty_one() -> None:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:5, 2:5] = True
    assert image_scores(mask.float(), mask) == {"f1": 1.0, "iou": 1.0, "auc": 1.0}
    assert image_scores(torch.zeros(8, 8), mask)["f1"] == 0.0


def test_means_over_images_and_area_of_pristine_ones() -> None:
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[:2] = True
    figures = Figures()
    figures.add(mask.float(), mask)
    figures.add(torch.zeros(4, 4), mask)
    figures.add(mask.float() * 0.9, torch.zeros(4, 4, dtype=torch.bool))
    summary = figures.summary()
    assert summary["f1"] == 0.5 and summary["n"] == 2
    assert summary["area_pristine"] == 0.5 and summary["n_pristine"] == 1
    assert Figures().summary()["f1"] is None


def test_defences_keep_shape_and_change_what_they_should() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    assert np.array_equal(make_defence("none", None)(image), image)
    for defence in (recompress, smooth):
        changed = defence(image)
        assert changed.shape == image.shape and changed.dtype == np.uint8
        assert not np.array_equal(changed, image)
    assert np.array_equal(smooth(np.full((9, 9, 3), 7, np.uint8)), np.full((9, 9, 3), 7))
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    assert recompress(red)[..., 0].mean() > 150  # channels stay in place


def test_jpeg_is_quality_75_and_median_is_three_by_three() -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    options = [cv2.IMWRITE_JPEG_QUALITY, 75]
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]
    expected = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.array_equal(make_defence("jpeg", None)(image), expected)
    found = make_defence("median", None)(image)
    for row, column in ((1, 1), (12, 20), (22, 30)):
        window = image[row - 1 : row + 2, column - 1 : column + 2].reshape(9, 3)
        assert found[row, column].tolist() == np.median(window, axis=0).tolist()


def test_the_ansm_defence_is_within_its_budget() -> None:
    torch.manual_seed(0)
    ansm = ANSM()
    torch.nn.init.normal_(ansm.head.weight, std=0.5)
    image = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
    shift = make_defence("ansm", ansm.eval())(image).astype(int) - image
    assert 0 < np.abs(shift).max() <= 8
    with pytest.raises(InputError, match="needs weights"):
        make_defence("ansm", None)
    with pytest.raises(InputError, match="defences must be of"):
        make_defence("prayer", None)
