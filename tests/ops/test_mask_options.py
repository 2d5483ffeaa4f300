"""Options and tensors of the losses of masks: right, or refused in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ansm_fast.losses import BCEDice, ChannelwiseKL, DualMask, FeatureAlignment
from ansm_fast.ops import bce_dice_loss, dual_mask_loss

from .masks import INFINITY, NAN, SHAPE, drawn, each_backend, same, with_gradient

BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"ignore_index": 0.5}, TypeError, "ignore_index must be an int or None, got 0.5 (float)"),
    ({"ignore_index": True}, TypeError, "ignore_index must be an int or None, got True (bool)"),
    ({"ignore_index": "255"}, TypeError, "ignore_index must be an int or None, got '255' (str)"),
    ({"ignore_index": torch.tensor(255)}, TypeError, "ignore_index must be an int or None"),
    ({"bce_weight": NAN}, ValueError, "bce_weight must be finite, got nan"),
    ({"dice_weight": INFINITY}, ValueError, "dice_weight must be finite, got inf"),
    ({"bce_weight": torch.tensor(1.0)}, TypeError, "bce_weight must be a number, got"),
    ({"dice_weight": None}, TypeError, "dice_weight must be a number, got NoneType"),
    ({"smooth": NAN}, ValueError, "smooth must be >= 0 and finite, got nan"),
    ({"smooth": INFINITY}, ValueError, "smooth must be >= 0 and finite, got inf"),
    ({"smooth": torch.tensor(1.0)}, TypeError, "smooth must be a number, got"),
    ({"pos_weight": -1.0}, ValueError, "pos_weight must be >= 0 and finite, got -1.0"),
    ({"pos_weight": NAN}, ValueError, "pos_weight must be >= 0 and finite, got nan"),
    ({"pos_weight": torch.tensor([-2.0])}, ValueError, "pos_weight must be >= 0 and finite"),
    ({"pos_weight": torch.tensor(NAN)}, ValueError, "pos_weight must be >= 0 and finite"),
    ({"pos_weight": torch.ones(1, requires_grad=True)}, ValueError, "pass pos_weight.detach()"),
    ({"pos_weight": torch.nn.Parameter(torch.ones(1))}, ValueError, "pass pos_weight.detach()"),
    ({"pos_weight": torch.tensor(True)}, TypeError, "pos_weight must be a real number"),
    ({"pos_weight": torch.tensor(1j)}, TypeError, "pos_weight must be a real number"),
    ({"pos_weight": [2.0]}, TypeError, "pos_weight must be a number, got list"),
    ({"pos_weight": torch.ones(3)}, ValueError, "pos_weight must be a number or a tensor of one"),
    ({"reduction": None}, ValueError, "reduction must be one of"),
]


@each_backend
@pytest.mark.parametrize(("options", "kind", "words"), BAD_OPTIONS)
def test_options_are_refused_by_ops_and_modules(backend, options, kind, words) -> None:
    logits, mask = drawn()
    calls = [
        lambda: bce_dice_loss(logits, mask, **options, backend=backend),
        lambda: dual_mask_loss(logits, logits, mask, **options, backend=backend),
        lambda: BCEDice(**options),
        lambda: DualMask(**options),
    ]
    for call in calls:
        with pytest.raises(kind) as caught:
            call()
        assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["weight_adv", "weight_orig"])
def test_weights_of_branches_are_finite_numbers(name) -> None:
    logits, mask = drawn()
    with pytest.raises(ValueError, match=f"{name} must be finite, got nan"):
        dual_mask_loss(logits, logits, mask, **{name: NAN})
    with pytest.raises(ValueError, match=f"{name} must be finite, got nan"):
        DualMask(**{name: NAN})
    with pytest.raises(TypeError, match=f"{name} must be a number"):
        dual_mask_loss(logits, logits, mask, **{name: torch.ones(())})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ChannelwiseKL(loss_weight=NAN), "loss_weight must be finite"),
        (lambda: ChannelwiseKL(temperature=INFINITY), "temperature must be finite"),
        (lambda: ChannelwiseKL(alpha=NAN), "alpha must be >= 0 and finite"),
        (lambda: FeatureAlignment(weights=(1.0, NAN)), r"weights\[1\] must be finite"),
    ],
)
def test_options_of_the_losses_of_maps(make, words) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@each_backend
def test_numbers_of_numpy_and_integers_serve(backend) -> None:
    logits, mask = drawn()
    options: dict[str, Any] = {"bce_weight": 0.5, "smooth": 2, "pos_weight": 3.0}
    expected = with_gradient(logits, mask.byte(), ignore_index=9, **options, backend=backend)
    of_numpy = {
        "bce_weight": np.float32(0.5), "smooth": np.int64(2), "pos_weight": np.float64(3),
        "ignore_index": np.int64(9),
    }  # fmt: skip
    same(with_gradient(logits, mask.byte(), **of_numpy, backend=backend), expected)
    options |= {"pos_weight": torch.tensor(3), "ignore_index": 9}
    same(with_gradient(logits, mask.byte(), **options, backend=backend), expected)
    options["pos_weight"] = torch.tensor([[3.0]], dtype=torch.bfloat16)
    same(with_gradient(logits, mask.byte(), **options, backend=backend), expected)


BYTES = torch.zeros(SHAPE, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("mask", "ignore_index", "kind", "words"),
    [
        (BYTES.long(), None, TypeError, "got torch.int64; convert it with mask.bool()"),
        (BYTES.long(), 255, TypeError, "got torch.int64; convert it with mask.float()"),
        (BYTES[:, 0], None, ValueError, "add the channel with mask.unsqueeze(1)"),
        (BYTES[:1], None, ValueError, "mask must have the shape of the logits, (2, 1, 6, 7)"),
        (BYTES.numpy(), None, TypeError, "got ndarray; convert it with torch.as_tensor(mask)"),
        (BYTES.tolist(), None, TypeError, "got list; convert it with torch.as_tensor(mask)"),
        (None, None, TypeError, "mask must be a tensor, got NoneType"),
        (BYTES.to_sparse(), None, TypeError, "mask must be a dense tensor"),
        (BYTES, -1, ValueError, "ignore_index must be in 0..255 for the uint8 mask, got -1"),
        (BYTES, 256, ValueError, "ignore_index must be in 0..255 for the uint8 mask, got 256"),
        (BYTES.half(), 65535, ValueError, "ignore_index must be in -2048..2048"),
        (BYTES.bfloat16(), 257, ValueError, "ignore_index must be in -256..256"),
        (BYTES.double(), 2**40, ValueError, "ignore_index must be in -16777216..16777216"),
    ],
)
def test_masks_are_refused(mask, ignore_index, kind, words) -> None:
    with pytest.raises(kind) as caught:
        bce_dice_loss(torch.zeros(SHAPE), mask, ignore_index=ignore_index)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("logits", [[[1.0]], np.zeros(SHAPE), torch.zeros(SHAPE).to_sparse()])
def test_logits_are_refused(logits) -> None:
    with pytest.raises(TypeError, match="logits must be a"):
        bce_dice_loss(logits, BYTES)


@each_backend
def test_expanded_tensors(backend) -> None:
    logits, mask = torch.randn(1, 1, 6, 7), torch.rand(1, 1, 1, 7) > 0.5
    expected = with_gradient(logits.repeat(2, 1, 1, 1), mask.repeat(2, 1, 6, 1), backend=backend)
    same(
        with_gradient(logits.expand(SHAPE), mask.expand(SHAPE), backend=backend),
        expected,
    )
    leaf = logits.clone().requires_grad_()
    bce_dice_loss(leaf.expand(SHAPE), mask.expand(SHAPE), backend=backend).backward()
    assert leaf.grad is not None
    _, slope = with_gradient(logits, mask.expand(1, 1, 6, 7), backend=backend)
    torch.testing.assert_close(leaf.grad, slope)


@each_backend
def test_pos_weight_of_one_element_has_any_shape(backend) -> None:
    logits, mask = drawn()
    expected = bce_dice_loss(logits, mask, pos_weight=3.0, backend=backend)
    for shape in ((), (1,), (1, 1, 1), (1, 1, 1, 1)):
        found = bce_dice_loss(logits, mask, pos_weight=torch.full(shape, 3.0), backend=backend)
        assert torch.equal(found, expected)
