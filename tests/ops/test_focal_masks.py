"""Masks of the focal loss: labels, ignored pixels, soft masks, weights."""

from __future__ import annotations

import pytest
import torch

from ansm_fast.ops import focal_loss

from .conftest import BACKENDS
from .focal_calls import SHAPE, drawn, with_gradient
from .masks import NAN, each_backend


@each_backend
@pytest.mark.parametrize("forged", [1, 2, 255])
def test_every_nonzero_byte_is_forged(backend, forged) -> None:
    logits, mask = drawn()
    for odd in (mask.byte() * forged, (mask.byte() * forged).view(torch.bool)):
        found = with_gradient(logits, odd, backend=backend)
        torch.testing.assert_close(found, with_gradient(logits, mask, backend=backend))


@each_backend
@pytest.mark.parametrize("label", [1, 9, 255])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ignored_pixels_take_no_part(backend, label, reduction) -> None:
    """The mean is over the other pixels of the whole batch, as that of F.cross_entropy."""
    logits, mask = drawn()
    hidden = torch.rand(SHAPE) > 0.7
    hidden[0] = True  # a whole sample
    mask &= ~hidden
    logits[hidden] = NAN
    bytes = torch.where(hidden, label, mask.byte() * 3).byte()
    soft = torch.where(hidden, float(label), mask.float())
    options = {"reduction": reduction, "backend": backend}
    kept = with_gradient(logits[~hidden], mask[~hidden], **options)
    for labels in (bytes,) if label == 1 else (bytes, soft):
        loss, gradient = with_gradient(logits, labels, ignore_index=label, **options)
        assert not gradient[hidden].any()
        if reduction == "none":
            assert not loss[hidden].any()
            torch.testing.assert_close(loss[~hidden], kept[0])
        else:
            torch.testing.assert_close((loss, gradient[~hidden]), kept)


@each_backend
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_without_a_pixel_loss_and_gradient_are_0(backend, reduction) -> None:
    logits, mask = torch.full(SHAPE, NAN), torch.full(SHAPE, 2, dtype=torch.uint8)
    options = {"reduction": reduction, "backend": backend}
    loss, gradient = with_gradient(logits, mask, ignore_index=2, **options)
    assert loss == 0 and not gradient.any()
    loss, gradient = with_gradient(torch.empty(0, 1, 4, 4), torch.empty(0, 1, 4, 4), **options)
    assert loss == 0 and gradient.shape == (0, 1, 4, 4)


@each_backend
@pytest.mark.parametrize("value", [255.0, -1.0, 1.02, NAN])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_what_is_no_mask_is_refused(backend, value, reduction) -> None:
    logits, mask = drawn()
    mask = mask.float()
    mask[1, 0, 2, 3] = value
    with pytest.raises(ValueError, match=r"mask must be in \[0, 1\]"):
        focal_loss(logits, mask, reduction=reduction, backend=backend)


@pytest.mark.slow
def test_what_is_no_mask_is_nan_in_a_graph() -> None:
    """Where nobody can be told, the loss and the gradient of the pixel are NaN."""
    torch._dynamo.reset()
    logits, mask = drawn()
    mask = mask.float()
    mask[1, 0, 2, 3] = 255.0
    logits.requires_grad_()
    compiled = torch.compile(focal_loss, fullgraph=True, backend="aot_eager")
    loss = compiled(logits, mask)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isnan() and gradient.isnan().sum() == 1 and gradient[1, 0, 2, 3].isnan()


@each_backend
def test_soft_masks_may_be_rounded(backend) -> None:
    logits, mask = drawn()
    near = torch.where(mask, 1 + 2.0**-8, -(2.0**-8))
    torch.testing.assert_close(
        with_gradient(logits, near, backend=backend), with_gradient(logits, mask, backend=backend)
    )


def test_pixels_that_are_left_out_are_not_seen() -> None:
    logits, mask = drawn()
    logits[0, 0, 1, 1] = NAN
    logits.requires_grad_()
    losses = focal_loss(logits, mask, reduction="none")
    losses[losses.isfinite()].mean().backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad.any()


def test_pos_weight_tensor_is_the_number() -> None:
    logits, mask = drawn()
    for backend in BACKENDS:
        torch.testing.assert_close(
            with_gradient(logits, mask, pos_weight=torch.tensor([3.0]), backend=backend),
            with_gradient(logits, mask, pos_weight=3.0, backend=backend),
        )
