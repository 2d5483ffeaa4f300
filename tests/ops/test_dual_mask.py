from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ansm_fast.ops import bce_dice_loss, dual_mask_loss
from ansm_fast.ops.cases import HALVES, LAYOUTS, laid_out

from .conftest import BACKENDS, error


def with_gradients(adv: Tensor, orig: Tensor, mask: Tensor, **options: Any) -> list[Tensor]:
    adv, orig = adv.detach().requires_grad_(), orig.detach().requires_grad_()
    loss, parts = dual_mask_loss(adv, orig, mask, return_components=True, **options)
    weight = torch.arange(1, loss.numel() + 1, dtype=loss.dtype).reshape(loss.shape)
    return [loss, parts, *torch.autograd.grad((loss * weight).sum(), (adv, orig))]


@given(
    shape=st.sampled_from([(1, 1, 1, 1), (2, 1, 7, 5), (3, 2, 33, 40), (2, 5), (2, 1, 3, 4, 5)]),
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    kind=st.sampled_from(["bool", "uint8", "soft", "ignored"]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    pos_weight=st.sampled_from([None, 2.5]),
    smooth=st.sampled_from([1.0, 1e-6]),
    targets=st.booleans(),
    own_mask=st.booleans(),
)
def test_equals_float64_truth(
    shape, layout, dtype, kind, reduction, pos_weight, smooth, targets, own_mask
) -> None:
    generator = torch.Generator().manual_seed(sum(shape))

    def draw() -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    adv, orig = (laid_out(((draw() - 0.5) * 8).to(dtype), layout) for _ in range(2))
    masks = {
        "bool": lambda: draw() > 0.6,
        "uint8": lambda: (draw() > 0.6).byte(),
        "soft": lambda: draw().to(dtype),
        "ignored": lambda: (draw() * 3).byte(),
    }
    mask = laid_out(masks[kind](), layout)
    options: dict[str, Any] = {
        "reduction": reduction, "pos_weight": pos_weight, "smooth": smooth,
        "weight_adv": 0.7, "weight_orig": 1.3, "bce_weight": 0.9, "dice_weight": 1.1,
        "ignore_index": 2 if kind == "ignored" else None,
        "mask_orig": masks[kind]() if own_mask else None,
    }  # fmt: skip
    if targets:
        options |= {"bce_target": draw().to(dtype), "bce_target_orig": draw().to(dtype)}
    exact = {k: v.double() if isinstance(v, Tensor) else v for k, v in options.items()}
    found = with_gradients(adv, orig, mask, backend="cpu", **options)
    true = with_gradients(adv.double(), orig.double(), mask, backend="reference", **exact)
    for value, expected in zip(found, true, strict=True):
        assert value.shape == expected.shape
        torch.testing.assert_close(
            value.double(), expected.double(), equal_nan=True,
            rtol=1e-11 if dtype == torch.float64 else 3e-5,
            atol=1e-12 if dtype == torch.float64 else 2e-6,
        )  # fmt: skip


@pytest.mark.parametrize("dtype", HALVES)
def test_half_is_at_most_twice_as_wrong_as_eager(dtype) -> None:
    adv, orig = (torch.randn(2, 1, 64, 64).to(dtype) * 3 for _ in range(2))
    mask = torch.rand(2, 1, 64, 64) > 0.7

    def eager(a: Tensor, b: Tensor) -> Tensor:
        total = torch.zeros((), dtype=a.dtype)
        for z in (a, b):
            y = mask.to(z.dtype)
            p = z.sigmoid()
            dice = 1 - (2 * (p * y).flatten(1).sum(1) + 1) / (
                p.flatten(1).sum(1) + y.flatten(1).sum(1) + 1
            )
            bce = F.binary_cross_entropy_with_logits(z, y)
            total = total + bce + dice.mean()
        return total

    a, b = adv.clone().requires_grad_(), orig.clone().requires_grad_()
    loss = eager(a, b)
    theirs = [loss, *torch.autograd.grad(loss, (a, b))]
    mine = with_gradients(adv, orig, mask, backend="cpu")
    true = with_gradients(adv.double(), orig.double(), mask, backend="reference")
    for ours, other, exact in zip([mine[0], *mine[2:]], theirs, [true[0], *true[2:]], strict=True):
        assert error(ours, exact) <= 2 * error(other, exact) + torch.finfo(dtype).eps


@pytest.mark.parametrize("ignore_index", [None, 1])
def test_gradcheck(ignore_index) -> None:
    adv, orig = (torch.randn(2, 1, 3, 4, dtype=torch.float64).requires_grad_() for _ in range(2))
    mask = torch.randint(0, 2, (2, 1, 3, 4)).byte()
    target = torch.rand(2, 1, 3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda a, b: dual_mask_loss(
            a, b, mask, bce_target=target, pos_weight=2.0, ignore_index=ignore_index, backend="cpu"
        ),
        (adv, orig),
    )


@pytest.mark.parametrize("value", [1e4, -1e4, 50.0, -50.0, 0.0])
@pytest.mark.parametrize("label", [0, 1])
def test_extreme_logits(value, label) -> None:
    logits = torch.full((2, 1, 8, 9), value)
    mask = torch.full((2, 1, 8, 9), bool(label))
    found = with_gradients(logits, logits, mask, backend="cpu")
    true = with_gradients(logits.double(), logits.double(), mask, backend="reference")
    for ours, exact in zip(found, true, strict=True):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours.double(), exact.double(), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("special", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("forged", [False, True])
@pytest.mark.parametrize("pos_weight", [1.0, 2.0])
def test_special_values_stay_visible(special, forged, pos_weight) -> None:
    """As in the reference, but for an inf in place of its NaN."""
    logits = torch.randn(3, 1, 5, 5)
    logits[1, 0, 2, 2] = special
    mask = torch.rand(3, 1, 5, 5) > 0.5
    mask[1, 0, 2, 2] = forged
    ours, theirs = (
        bce_dice_loss(logits, mask, pos_weight=pos_weight, reduction="none", backend=name)
        for name in BACKENDS
    )
    assert ours.isfinite().tolist() == theirs.isfinite().tolist() == [True, False, True]
    torch.testing.assert_close(ours[::2], theirs[::2])


def test_empty() -> None:
    empty = torch.empty(0, 1, 4, 4, requires_grad=True)
    mask = torch.empty(0, 1, 4, 4, dtype=torch.bool)
    for reduction in ("mean", "sum", "none"):
        losses = [
            bce_dice_loss(empty, mask, reduction=reduction, backend=name) for name in BACKENDS
        ]
        torch.testing.assert_close(*losses, equal_nan=True)
    losses[0].sum().backward()
    assert empty.grad is not None and empty.grad.shape == empty.shape


def test_bce_is_linear_in_its_target() -> None:
    """One soft target in the place of two cross-entropies."""
    logits, truth = torch.randn(2, 1, 9, 9), (torch.rand(2, 1, 9, 9) > 0.5).float()
    own = torch.rand(2, 1, 9, 9)
    options = {"dice_weight": 0.0}
    blended = bce_dice_loss(logits, truth, bce_target=torch.lerp(truth, own, 0.3), **options)
    separate = 0.7 * bce_dice_loss(logits, truth, **options) + 0.3 * bce_dice_loss(
        logits, truth, bce_target=own, **options
    )
    torch.testing.assert_close(blended, separate)


def test_components() -> None:
    logits, mask = torch.randn(2, 1, 9, 9, requires_grad=True), torch.rand(2, 1, 9, 9) > 0.5
    loss, parts = bce_dice_loss(
        logits, mask, bce_weight=2.0, dice_weight=3.0, return_components=True
    )
    assert not parts.requires_grad
    torch.testing.assert_close(loss.detach(), 2 * parts[0] + 3 * parts[1])
    torch.testing.assert_close(
        parts[0], F.binary_cross_entropy_with_logits(logits.detach(), mask.float())
    )


def test_pos_weight_tensor_is_the_number() -> None:
    logits, mask = torch.randn(2, 1, 9, 9), torch.rand(2, 1, 9, 9) > 0.5
    for backend in BACKENDS:
        torch.testing.assert_close(
            bce_dice_loss(logits, mask, pos_weight=torch.tensor([3.0]), backend=backend),
            bce_dice_loss(logits, mask, pos_weight=3.0, backend=backend),
        )


def test_same_bits_for_any_number_of_threads() -> None:
    adv, orig = torch.randn(3, 1, 300, 301), torch.randn(3, 1, 300, 301)
    mask, threads = torch.rand(3, 1, 300, 301) > 0.5, torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(with_gradients(adv, orig, mask, backend="cpu"))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"mask": torch.zeros(2, 1, 4, 5)}, ValueError, "mask must have the shape"),
        ({"mask": torch.zeros(2, 1, 4, 4).long()}, TypeError, "mask must be bool"),
        ({"mask": torch.zeros(2, 1, 4, 4, requires_grad=True)}, ValueError, "mask.detach()"),
        ({"logits_orig": torch.zeros(2, 1, 4, 4).double()}, TypeError, "logits_orig"),
        ({"logits_orig": None}, TypeError, "logits_orig must be a tensor"),
        ({"logits_adv": torch.zeros(4).int()}, TypeError, "logits_adv must be float32"),
        ({"pos_weight": torch.ones(3)}, ValueError, "one element"),
        ({"smooth": -1.0}, ValueError, "smooth must be >= 0"),
        ({"reduction": "max"}, ValueError, "reduction must be one of"),
        ({"bce_target": torch.zeros(2, 1, 4, 5)}, ValueError, "bce_target must have the shape"),
    ],
)
def test_errors(arguments, kind, words) -> None:
    given: dict[str, Any] = {
        "logits_adv": torch.zeros(2, 1, 4, 4), "logits_orig": torch.zeros(2, 1, 4, 4),
        "mask": torch.zeros(2, 1, 4, 4),
    } | arguments  # fmt: skip
    with pytest.raises(kind) as caught:
        dual_mask_loss(**given)
    assert words in str(caught.value) and "\n" not in str(caught.value)
