"""What counts for nothing: ignored pixels and samples, terms and branches of weight 0."""

from __future__ import annotations

import pytest
import torch

from ansm_fast.losses import ChannelwiseKL, FeatureAlignment
from ansm_fast.ops import bce_dice_loss, dual_mask_loss

from .masks import INFINITY, NAN, SHAPE, drawn, each_backend, same, with_gradient


@each_backend
@pytest.mark.parametrize("value", [0.0, 1e4, INFINITY, NAN])
@pytest.mark.parametrize("smooth", [1.0, 0.0])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_sample_that_is_ignored_is_0_and_counts(backend, value, smooth, dtype) -> None:
    logits, mask = drawn()
    mask = mask.to(dtype)
    logits[0], mask[0] = value, 255
    options = {"ignore_index": 255, "smooth": smooth, "backend": backend}
    losses, gradient = with_gradient(logits, mask, reduction="none", **options)
    assert losses[0] == 0 and losses[1] > 0 and not gradient[0].any() and gradient[1].any()
    for reduction, expected in (("mean", losses[1] / 2), ("sum", losses[1])):
        loss, _ = with_gradient(logits, mask, reduction=reduction, **options)
        torch.testing.assert_close(loss, expected)
    everything, gradient = with_gradient(logits, torch.full_like(mask, 255), **options)
    assert everything == 0 and not gradient.any()


@each_backend
@pytest.mark.parametrize("value", [INFINITY, -INFINITY, NAN])
def test_an_ignored_pixel_may_hold_anything(backend, value) -> None:
    logits, mask = drawn()
    labels = mask.byte()
    labels[0, 0, 2, 2] = 9
    options = {"ignore_index": 9, "pos_weight": 2.0, "backend": backend}
    expected = with_gradient(logits, labels, **options)
    logits[0, 0, 2, 2] = value
    target = mask.float()
    target[0, 0, 2, 2] = 9
    same(with_gradient(logits, labels, bce_target=target, **options), expected)


@each_backend
@pytest.mark.parametrize("value", [INFINITY, -INFINITY, 1e38])
def test_without_its_weight_a_bce_hides_nothing_of_dice(backend, value) -> None:
    logits, mask = drawn()
    logits[0, 0, 2, 2] = value
    loss, gradient = with_gradient(logits, mask, bce_weight=0.0, backend=backend)
    certain, slope = with_gradient(logits.clamp(-99, 99), mask, bce_weight=0.0, backend="reference")
    same((loss, gradient), (certain, slope))
    wrong = mask * 255.0
    same(
        with_gradient(logits, mask, bce_weight=0, bce_target=wrong, backend=backend),
        (certain, slope),
    )


@each_backend
def test_without_its_weight_dice_hides_nothing_of_the_bce(backend) -> None:
    logits, mask = drawn()
    expected = with_gradient(logits, mask, dice_weight=0.0, backend="reference")
    assert expected[0].isfinite()
    # No mask and no prediction: 0 / 0, were it not for the convention that nothing is wrong.
    found = with_gradient(logits, mask, dice_weight=0.0, smooth=0.0, backend=backend)
    same(found, expected)


@each_backend
@pytest.mark.parametrize("branch", ["adv", "orig"])
@pytest.mark.parametrize("value", [INFINITY, NAN])
def test_a_branch_without_weight_adds_nothing(backend, branch, value) -> None:
    logits, mask = drawn()
    pair = [logits.clone().requires_grad_(), torch.full(SHAPE, value).requires_grad_()]
    given = pair if branch == "orig" else pair[::-1]
    loss = dual_mask_loss(*given, mask, **{f"weight_{branch}": 0.0}, backend=backend)
    slopes = torch.autograd.grad(loss, pair)
    same((loss.detach(), slopes[0]), with_gradient(logits, mask, backend=backend))
    assert not slopes[1].any()


@each_backend
@pytest.mark.parametrize("value", [INFINITY, NAN])
def test_without_any_weight_everything_is_0(backend, value) -> None:
    logits, mask = torch.full(SHAPE, value), torch.rand(SHAPE) > 0.5
    loss, gradient = with_gradient(logits, mask, bce_weight=0, dice_weight=0, backend=backend)
    assert loss == 0 and not gradient.any()


def test_a_sample_that_the_caller_leaves_out_has_gradient_0() -> None:
    """Of the compiled op; autograd's own formulas multiply 0 by NaN."""
    logits, mask = drawn()
    logits[0, 0, 2, 2] = NAN
    logits.requires_grad_()
    losses = bce_dice_loss(logits, mask, reduction="none", backend="cpu")
    (gradient,) = torch.autograd.grad(losses[losses.isfinite()].sum(), logits)
    assert not gradient[0].any() and gradient[1].isfinite().all()


@each_backend
@pytest.mark.parametrize("logit", [-1e4, -50.0, -1.0, 0.0, 1e4])
def test_dice_of_an_empty_mask_without_smoothing(backend, logit) -> None:
    """1 where something is marked; 0 where nothing is, as with smoothing: nothing is wrong."""
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    loss, gradient = with_gradient(
        torch.full(SHAPE, logit), mask, bce_weight=0, smooth=0, backend=backend
    )
    assert loss == (0 if logit == -1e4 else 1) and not gradient.any()


@pytest.mark.parametrize("value", [INFINITY, NAN])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_losses_of_maps_without_weight(value, reduction) -> None:
    sound, other = torch.randn(2, 3, 4, 5).requires_grad_(), torch.randn(2, 3, 4, 5)
    broken = torch.full((2, 3, 4, 5), value).requires_grad_()
    loss = ChannelwiseKL(loss_weight=0.0, reduction=reduction)(broken, other)
    assert loss.shape == (() if reduction == "mean" else (2, 3)) and not loss.any()
    assert not torch.autograd.grad(loss.sum(), broken)[0].any()
    if reduction == "none":
        return
    aligned = FeatureAlignment(weights=(1.0, 0.0))([sound, broken], [other, other])
    expected = ChannelwiseKL()(sound, other) / 2
    torch.testing.assert_close(aligned, expected)
    slopes = torch.autograd.grad(aligned, (sound, broken))
    torch.testing.assert_close(slopes[0], torch.autograd.grad(expected, sound)[0])
    assert not slopes[1].any()
