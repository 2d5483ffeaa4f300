"""BCE + Dice beside PyTorch's own ops and MONAI's losses."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.losses import BCEDice
from ansm_fast.ops import bce_dice_loss

SHAPE = (3, 1, 12, 13)
BACKENDS = ("cpu", "reference")
IGNORED = 255


@pytest.fixture(scope="module")
def monai() -> Any:
    """MONAI's module of Dice losses; a plain import takes PyTorch and NumPy alone."""
    if importlib.util.find_spec("monai") is None:
        pytest.skip("monai is not installed; pip install --no-deps monai")
    import monai.losses.dice

    return monai.losses.dice


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def value_and_slope(loss: Any, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().requires_grad_()
    value = loss(leaf, target)
    return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]


def same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=3e-5, atol=2e-6)


def two_class_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """PyTorch's loss with an ignore_index, one value a sample: of logits 0 and z it is the BCE."""
    pair = torch.cat([torch.zeros_like(logits), logits], 1)
    labels = labels[:, 0].long()
    total = F.cross_entropy(pair, labels, ignore_index=IGNORED, reduction="none").flatten(1).sum(1)
    return total / (labels != IGNORED).flatten(1).sum(1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_dice_and_bce_are_monais(monai, backend, scale, dtype) -> None:
    logits, mask = torch.randn(SHAPE) * scale, torch.rand(SHAPE) > 0.6
    options = {"sigmoid": True, "smooth_nr": 1.0, "smooth_dr": 1.0}
    target = mask.float()

    def ours(z: Tensor, _: Tensor, **weights: float) -> Tensor:
        return bce_dice_loss(z, mask.to(dtype), backend=backend, **weights)

    theirs = value_and_slope(monai.DiceLoss(**options), logits, target)
    same(value_and_slope(lambda z, y: ours(z, y, bce_weight=0.0), logits, target), theirs)
    theirs = value_and_slope(
        monai.DiceCELoss(**options, lambda_dice=0.7, lambda_ce=1.3), logits, target
    )
    both = {"dice_weight": 0.7, "bce_weight": 1.3}
    same(value_and_slope(lambda z, y: ours(z, y, **both), logits, target), theirs)
    weighted = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))
    module = BCEDice(dice_weight=0.0, pos_weight=3.0)
    theirs = value_and_slope(weighted, logits, target)
    same(value_and_slope(module, logits, mask.to(dtype)), theirs)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_ignored_pixels_are_those_of_cross_entropy_and_monai(monai, backend, dtype) -> None:
    logits, labels = torch.randn(SHAPE) * 3, torch.randint(0, 2, SHAPE)
    labels[torch.rand(SHAPE) > 0.7] = IGNORED
    options = {"ignore_index": IGNORED, "reduction": "none", "backend": backend}

    def ours(z: Tensor, y: Tensor, **weights: float) -> Tensor:
        return bce_dice_loss(z, y.to(dtype), **weights, **options)

    theirs = value_and_slope(two_class_cross_entropy, logits, labels)
    same(value_and_slope(lambda z, y: ours(z, y, dice_weight=0.0), logits, labels), theirs)
    dice = monai.DiceLoss(
        sigmoid=True, smooth_nr=1.0, smooth_dr=1.0, ignore_index=IGNORED, reduction="none"
    )
    theirs = value_and_slope(lambda z, y: dice(z, y.float()).flatten(), logits, labels)
    same(value_and_slope(lambda z, y: ours(z, y, bce_weight=0.0), logits, labels), theirs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sample_that_is_ignored(monai, backend) -> None:
    """0, and a sample of the mean; cross_entropy averages over pixels and has NaN when alone."""
    logits, labels = torch.randn(SHAPE), torch.randint(0, 2, SHAPE).byte()
    labels[1] = IGNORED
    options = {"ignore_index": IGNORED, "backend": backend}

    def ours(z: Tensor, y: Tensor, **weights: Any) -> Tensor:
        return bce_dice_loss(z, y, **weights, **options)

    loss, slope = value_and_slope(ours, logits, labels)
    others = bce_dice_loss(logits[[0, 2]], labels[[0, 2]], backend=backend)
    torch.testing.assert_close(loss, others * 2 / 3)
    assert not slope[1].any() and slope[::2].any()
    alone = value_and_slope(ours, logits[1:2], labels[1:2])
    assert alone[0] == 0 and not alone[1].any()
    # Alone it is 0 / 0 there, in the batch it counts for nothing; the sum over pixels is the same.
    assert two_class_cross_entropy(logits, labels).isnan().tolist() == [False, True, False]
    pair = torch.cat([torch.zeros_like(logits), logits], 1)
    total = F.cross_entropy(pair, labels[:, 0].long(), ignore_index=IGNORED, reduction="sum")
    found = ours(logits, labels, dice_weight=0.0, reduction="sum")
    torch.testing.assert_close(found * SHAPE[2] * SHAPE[3], total)
    dice = monai.DiceLoss(
        sigmoid=True, smooth_nr=1.0, smooth_dr=1.0, ignore_index=IGNORED, reduction="sum"
    )
    found = ours(logits, labels, bce_weight=0.0, reduction="sum")
    torch.testing.assert_close(found, dice(logits, labels.float()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("logit", [1e4, -1e4, float("inf"), -float("inf")])
@pytest.mark.parametrize("label", [0, 1])
def test_saturated_logits(monai, backend, logit, label) -> None:
    logits, mask = torch.full(SHAPE, logit), torch.full(SHAPE, label, dtype=torch.uint8)
    dice = monai.DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)
    theirs = value_and_slope(dice, logits, mask.float())
    found = value_and_slope(
        lambda z, y: bce_dice_loss(z, y, bce_weight=0.0, backend=backend), logits, mask
    )
    same(found, theirs)
    bce, slope = value_and_slope(F.binary_cross_entropy_with_logits, logits, mask.float())
    found = value_and_slope(
        lambda z, y: bce_dice_loss(z, y, dice_weight=0.0, backend=backend), logits, mask
    )
    if bce.isfinite():
        same(found, (bce, slope))
    else:  # where PyTorch has NaN for an infinite loss, this may have the infinity
        assert not found[0].isfinite()
