"""What a mask may hold: right for every value, or refused with the range that was found."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ansm_fast.ops import bce_dice_loss, dual_mask_loss

from .masks import INFINITY, NAN, SHAPE, drawn, each_backend, same, with_gradient


@each_backend
@pytest.mark.parametrize("forged", [1, 2, 255])
@pytest.mark.parametrize("pos_weight", [None, 2.5])
def test_every_nonzero_byte_is_forged(backend, forged, pos_weight) -> None:
    logits, mask = drawn()
    options = {"pos_weight": pos_weight, "backend": backend}
    expected = with_gradient(logits, mask, **options)
    same(with_gradient(logits, mask.byte() * forged, **options), expected)
    target = {"bce_target": mask.byte() * forged}
    same(with_gradient(logits, mask, **target, **options), expected)
    bytes_seen_as_bool = (mask.byte() * forged).view(torch.bool)
    same(with_gradient(logits, bytes_seen_as_bool, **options), expected)


@each_backend
@pytest.mark.parametrize("forged", [1, 200])
@pytest.mark.parametrize("ignored", [255, 9])
def test_an_ignored_byte_is_no_forged_one(backend, forged, ignored) -> None:
    logits, mask = drawn()
    hidden = torch.rand(SHAPE) > 0.7
    labels = torch.where(hidden, ignored, mask.byte() * forged).byte()
    soft = torch.where(hidden, float(ignored), mask.float())
    options = {"ignore_index": ignored, "reduction": "none", "backend": backend}
    found = with_gradient(logits, labels, **options)
    same(found, with_gradient(logits, soft, **options))
    assert not found[1][hidden].any()
    kept = ~hidden[0]
    alone = bce_dice_loss(
        logits[:1][kept[None]][None], mask[:1][kept[None]][None], backend="reference"
    )
    torch.testing.assert_close(found[0][0], alone)


@each_backend
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_label_1_may_be_the_ignored_one(backend, dtype) -> None:
    logits, mask = drawn()
    expected = with_gradient(logits, mask * 2.0, ignore_index=2, backend="reference")
    same(with_gradient(logits, mask.to(dtype), ignore_index=1, backend=backend), expected)


@each_backend
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("factor", "shift", "words"),
    [
        (255, 0, "must be in [0, 1], got values from 0 to 255; pass {} / 255 if 255 means forged"),
        (1, -0.5, "must be in [0, 1], got values from -0.5 to 0.5; pass {}.clamp(0, 1)"),
        (NAN, 0, "must be in [0, 1], got NaN; it comes from what made the mask"),
    ],
)
@pytest.mark.parametrize("argument", ["mask", "mask_orig", "bce_target", "bce_target_orig"])
def test_no_mask_is_named_with_its_range(backend, dtype, factor, shift, words, argument) -> None:
    logits, mask = drawn()
    given = {"mask": mask, argument: mask.to(dtype) * factor + shift}
    with pytest.raises(ValueError, match=argument) as caught:
        dual_mask_loss(logits, logits, **given, backend=backend)
    assert f"{argument} " + words.format(argument) in str(caught.value)
    assert "\n" not in str(caught.value)


@each_backend
def test_one_pixel_among_many_is_found(backend) -> None:
    logits, soft = torch.randn(2, 1, 70, 71), torch.rand(2, 1, 70, 71)
    for place, value in ((0, 2.0), (4969, -1.0), (4000, INFINITY), (1025, NAN)):
        wrong = soft.clone()
        wrong[1].view(-1)[place] = value
        with pytest.raises(ValueError, match=r"mask must be in \[0, 1\]"):
            bce_dice_loss(logits, wrong, backend=backend)
        ignored = torch.where(wrong == soft, soft, torch.tensor(-1.0))
        loss = bce_dice_loss(logits, ignored, ignore_index=-1, backend=backend)
        assert loss.isfinite()


@each_backend
def test_rounding_around_0_and_1_is_no_fault(backend) -> None:
    """As resizing, blurring and -0.0 leave a mask."""
    logits, mask = torch.full(SHAPE, -1e4), torch.ones(SHAPE)
    mask[:, :, :3] = 1 + 1e-6
    mask[:, :, 3:, 3:] = -1e-6
    mask[:, :, 3:, :3] = -0.0
    expected = with_gradient(logits, mask.clamp(0, 1), backend=backend)
    same(with_gradient(logits, mask, backend=backend), expected)
    # Were it not clamped, certain logits would make the loss negative.
    assert bce_dice_loss(-logits, torch.full(SHAPE, 1.007), backend=backend) >= 0


@each_backend
def test_a_loss_is_never_negative(backend) -> None:
    """Whatever bytes and soft values, whatever the logits."""
    for scale in (0.1, 10, 1e4):
        logits = torch.randn(8, 1, 5, 5) * scale
        for mask in (torch.randint(0, 256, logits.shape).byte(), torch.rand(logits.shape)):
            for smooth in (0, 1e-6, 1.0):
                loss, parts = bce_dice_loss(
                    logits, mask, smooth=smooth, reduction="none", return_components=True,
                    pos_weight=0.0, backend=backend,
                )  # fmt: skip
                assert (loss >= 0).all() and (parts >= 0).all()
    exact = torch.where(torch.rand(8, 1, 33, 33) > 0.5, 1e4, -1e4)
    assert (bce_dice_loss(exact, exact > 0, reduction="none", backend=backend) >= 0).all()


@pytest.mark.parametrize("where", ["mask", "bce_target"])
def test_where_nothing_is_read_the_loss_is_nan(where) -> None:
    """As on a GPU: torch.compile's graph does not look either."""
    logits, mask = drawn()
    wrong = mask.float()
    wrong[1, 0, 2, 2] = 255

    @torch.compile(backend="eager", fullgraph=True)
    def step(z: Tensor) -> Tensor:
        options = {"reduction": "none", "backend": "cpu"}
        if where == "mask":
            return bce_dice_loss(z, wrong, **options)
        return bce_dice_loss(z, mask, bce_target=wrong, **options)

    logits.requires_grad_()
    loss = step(logits)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.isnan().tolist() == [False, True]
    assert gradient[0].isfinite().all() and gradient[1].isnan().any()
