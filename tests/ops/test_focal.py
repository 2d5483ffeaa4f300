from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ansm_fast.ops import focal_loss
from ansm_fast.ops.cases import HALVES, LAYOUTS, laid_out
from ansm_fast.ops.focal.cases import eager_loss

from .conftest import BACKENDS, error
from .focal_calls import GAMMAS, SHAPE, drawn, with_gradient
from .masks import INFINITY, NAN, each_backend


@given(
    shape=st.sampled_from(
        [(1, 1, 1, 1), (5,), (2, 5), (2, 1, 7, 5), (3, 2, 33, 40), (2, 1, 3, 4, 5)]
    ),
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    kind=st.sampled_from(["bool", "uint8", "soft", "ignored"]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    alpha=st.sampled_from([None, 0.25, 1.0]),
    gamma=st.sampled_from(GAMMAS),
    pos_weight=st.sampled_from([None, 2.5]),
)
def test_equals_float64_truth(
    shape, layout, dtype, kind, reduction, alpha, gamma, pos_weight
) -> None:
    torch.manual_seed(sum(shape))
    logits = laid_out((torch.randn(shape) * 4).to(dtype), layout)
    masks = {
        "bool": torch.rand(shape) > 0.6,
        "uint8": (torch.rand(shape) > 0.6).byte() * 255,
        "soft": torch.rand(shape).to(dtype),
        "ignored": (torch.rand(shape) * 3).byte(),
    }
    mask = laid_out(masks[kind], layout)
    options: dict[str, Any] = {
        "reduction": reduction, "alpha": alpha, "gamma": gamma, "pos_weight": pos_weight,
        "ignore_index": 2 if kind == "ignored" else None,
    }  # fmt: skip
    found = with_gradient(logits, mask, backend="cpu", **options)
    mask = mask.double() if kind == "soft" else mask
    true = with_gradient(logits.double(), mask, backend="reference", **options)
    for value, expected in zip(found, true, strict=True):
        assert value.shape == expected.shape and value.dtype == dtype
        torch.testing.assert_close(
            value.double(), expected,
            rtol=1e-11 if dtype == torch.float64 else 3e-5,
            atol=1e-12 if dtype == torch.float64 else 2e-6,
        )  # fmt: skip


@each_backend
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("soft", [False, True])
def test_is_torchvisions_loss(backend, gamma, alpha, soft) -> None:
    logits, mask = drawn()
    mask = torch.rand(SHAPE).double() if soft else mask
    options = {"alpha": alpha, "gamma": gamma, "reduction": "none"}
    torch.testing.assert_close(
        focal_loss(logits.double(), mask, backend=backend, **options),
        eager_loss(logits.double(), mask, **options),
    )


def test_negative_alpha_is_none() -> None:
    logits, mask = drawn()
    for backend in BACKENDS:
        assert torch.equal(
            focal_loss(logits, mask, alpha=-1, backend=backend),
            focal_loss(logits, mask, alpha=None, backend=backend),
        )


@pytest.mark.parametrize("pos_weight", [None, 3.0])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_without_gamma_it_is_the_cross_entropy(pos_weight, reduction) -> None:
    logits, mask = drawn()

    def entropy(z: Tensor) -> tuple[Tensor, Tensor]:
        weight = None if pos_weight is None else torch.tensor(pos_weight, dtype=z.dtype)
        leaf, y = z.clone().requires_grad_(), mask.to(z.dtype)
        loss = F.binary_cross_entropy_with_logits(leaf, y, pos_weight=weight, reduction=reduction)
        factors = torch.arange(1, loss.numel() + 1, dtype=z.dtype).reshape(loss.shape)
        return loss.detach(), torch.autograd.grad((loss * factors).sum(), leaf)[0]

    options = {"alpha": None, "gamma": 0, "reduction": reduction, "pos_weight": pos_weight}
    for found, true in zip(
        with_gradient(logits, mask, backend="reference", **options), entropy(logits), strict=True
    ):
        torch.testing.assert_close(found, true, rtol=2e-7, atol=0)
    for found, true in zip(
        with_gradient(logits, mask, backend="cpu", **options), entropy(logits.double()), strict=True
    ):
        torch.testing.assert_close(found.double(), true, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_half_is_at_most_twice_as_wrong_as_eager(dtype, reduction, gamma) -> None:
    logits = (torch.randn(2, 1, 64, 64) * 3).to(dtype)
    mask = torch.rand(2, 1, 64, 64) > 0.7
    options = {"gamma": gamma, "reduction": reduction}
    leaf = logits.clone().requires_grad_()
    loss = eager_loss(leaf, mask, **options)
    theirs = [loss, torch.autograd.grad(loss.sum() * 1024, leaf)[0]]
    for backend in BACKENDS:
        leaf = logits.clone().requires_grad_()
        loss = focal_loss(leaf, mask, backend=backend, **options)
        mine = [loss, torch.autograd.grad(loss.sum() * 1024, leaf)[0]]
        leaf = logits.double().requires_grad_()
        loss = focal_loss(leaf, mask, backend="reference", **options)
        true = [loss, torch.autograd.grad(loss.sum() * 1024, leaf)[0]]
        for ours, other, exact in zip(mine, theirs, true, strict=True):
            assert ours.dtype == dtype
            assert error(ours, exact) <= 2 * error(other, exact) + torch.finfo(dtype).eps


def test_grad_scalers_factor_comes_before_the_rounding() -> None:
    """A mean of many pixels has gradients below float16's numbers, which the scale lifts."""
    logits, mask = torch.randn(4, 1, 256, 256), torch.rand(4, 1, 256, 256) > 0.5
    exact = with_gradient(logits.half().double() * 1.0, mask, backend="reference")[1]
    for backend in BACKENDS:
        leaf = logits.half().requires_grad_()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = focal_loss(leaf, mask, backend=backend)
        assert loss.dtype == torch.float32
        (gradient,) = torch.autograd.grad(loss * 2.0**16, leaf)
        assert error(gradient.double() / 2.0**16, exact) < 2**-11


@each_backend
def test_autocast_gives_each_loss_in_float32(backend) -> None:
    logits, mask = drawn((2, 3, 4, 5))
    half = laid_out(logits.bfloat16(), "channels_last").requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = focal_loss(half, mask, reduction="none", backend=backend)
    assert loss.dtype == torch.float32
    exact = focal_loss(half.detach().double(), mask, reduction="none", backend="reference")
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-7)
    (gradient,) = torch.autograd.grad(loss.sum(), half)
    assert gradient.dtype == torch.bfloat16


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("ignore_index", [None, 1])
def test_gradcheck(gamma, ignore_index) -> None:
    logits = torch.randn(2, 1, 3, 4, dtype=torch.float64).requires_grad_()
    hard = torch.randint(0, 2, (2, 1, 3, 4)).byte()
    soft = torch.rand(2, 1, 3, 4, dtype=torch.float64)
    for mask in (hard, soft):
        for reduction in ("mean", "none"):
            options = {"gamma": gamma, "reduction": reduction, "pos_weight": 2.0}
            options |= {"ignore_index": ignore_index}
            assert torch.autograd.gradcheck(
                lambda z, m=mask, o=options: focal_loss(z, m, backend="cpu", **o), logits
            )


@each_backend
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_extreme_logits(backend, gamma, target) -> None:
    """Finite everywhere; where the pixel is right the gradient tends to 0 for any gamma."""
    logits = torch.tensor([-1e4, -100.0, -50.0, -20.0, 0.0, 20.0, 50.0, 100.0, 1e4])
    mask = torch.full((9,), target)
    found = with_gradient(logits, mask, gamma=gamma, reduction="none", backend=backend)
    true = with_gradient(logits.double(), mask, gamma=gamma, reduction="none", backend="reference")
    for ours, exact in zip(found, true, strict=True):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-8)
    if target in (0.0, 1.0):
        right = found[1] if target == 0 else found[1].flip(0)
        assert (right[:3].abs() < 1e-9).all()


def test_a_root_has_no_gradient_in_torchvision_where_p_t_rounds_to_1() -> None:
    """1 - p_t is a sum of positive parts here; as a difference it is 0 from logits of 17 on."""
    logits, mask = torch.tensor([17.0, 30.0], requires_grad=True), torch.ones(2)
    (theirs,) = torch.autograd.grad(eager_loss(logits, mask, gamma=0.5, reduction="sum"), logits)
    assert theirs.isnan().all()
    for backend in BACKENDS:
        loss = focal_loss(logits, mask, gamma=0.5, reduction="sum", backend=backend)
        (ours,) = torch.autograd.grad(loss, logits)
        assert (ours < 0).all() and ours[0] < ours[1] and ours.abs().max() < 1e-8


@pytest.mark.parametrize("special", [INFINITY, -INFINITY, NAN])
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_special_values_stay_visible(special, target, gamma) -> None:
    """As in the reference, but for an inf in place of its NaN."""
    logits, mask = torch.randn(5), torch.rand(5)
    logits[2], mask[2] = special, target
    found, true = (
        with_gradient(logits, mask, gamma=gamma, reduction="none", backend=name)
        for name in BACKENDS
    )
    keep = torch.arange(5) != 2
    for ours, theirs in zip(found, true, strict=True):
        assert ours.isfinite().tolist() == theirs.isfinite().tolist()
        torch.testing.assert_close(ours[keep], theirs[keep])
    assert not found[0][2].isfinite()
    if gamma > 0 and special != NAN:
        assert found[1][2].isnan() and true[1][2].isnan()
