"""The edges of every op through the public functions: as the reference, or exact."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ansm_fast.ops import (
    bce_dice_loss,
    channelwise_kl,
    clamp_project,
    dual_mask_loss,
    image_pack,
    image_unpack,
    momentum_step_,
    pgd_step_,
)
from ansm_fast.ops.cases import DTYPES, HALVES, laid_out
from ansm_fast.ops.cases import NATIVE_LAYOUTS as LAYOUTS

BACKENDS = ("triton", "reference")
LONG = (1, 2, 8200, 1)  # pixels that no tile holds


def with_gradients(input: Tensor, target: Tensor, **options) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in (input, target)]
    loss = channelwise_kl(*leaves, **options)
    return [loss.detach(), *torch.autograd.grad((loss * 3).sum(), leaves)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_equal_maps_give_exactly_zero(dtype, layout, alpha) -> None:
    for shape, scale in (((2, 5, 12, 9), 1e4), ((1, 20, 41, 13), 1.0), (LONG, 1e3)):
        input = laid_out((torch.randn(shape) * scale).to(dtype), layout)
        loss, *gradients = with_gradients(input, input.clone(), backend="triton", alpha=alpha)
        assert loss == 0
        assert alpha > 0 or not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "channelmean", "sum", "none"])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_gradients_keep_what_a_scale_saves(dtype, reduction) -> None:
    """A GradScaler's factor comes with grad_output, one pair or a list; rounded once in float16."""
    bound = 2**-11 * 1.05 if dtype == torch.float16 else 2**-8 * 1.05 * 2
    for shape in ((2, 3, 40, 9), LONG):
        pair = [torch.randn(shape).to(dtype) for _ in range(2)]

        def gradients(tensors: list[Tensor], backend: str, listed: bool) -> list[Tensor]:
            leaves = [x.clone().requires_grad_() for x in tensors]
            given = ([leaves[0]], [leaves[1]]) if listed else leaves
            loss = channelwise_kl(*given, reduction=reduction, backend=backend)
            loss = loss[0] if isinstance(loss, list) else loss
            return list(torch.autograd.grad(loss.sum(), leaves, torch.tensor(2.0**14).to(loss)))

        for listed in (False, True):
            found = gradients(pair, "triton", listed)
            true = gradients([x.double() for x in pair], "reference", listed)
            for one, other in zip(found, true, strict=True):
                assert (one - other).abs().max() <= bound * other.abs().max()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 5, 30, 4), LONG])
def test_huge_logits(layout, shape) -> None:
    pair = [laid_out(torch.randn(shape).sign() * 1e4, layout) for _ in range(2)]
    found = with_gradients(*pair, backend="triton")
    true = with_gradients(*(x.double() for x in pair), backend="reference")
    for value, exact in zip(found, true, strict=True):
        assert value.isfinite().all()
        torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", ["input", "target", "both"])
@pytest.mark.parametrize("special", [-math.inf, math.inf, math.nan])
@pytest.mark.parametrize("shape", [(1, 3, 50, 3), (1, 3, 8200, 1)])
def test_special_values_propagate_as_in_the_reference(layout, where, special, shape) -> None:
    pair = [torch.randn(shape), torch.randn(shape)]
    for tensor, name in zip(pair, ("input", "target"), strict=True):
        if where in (name, "both"):
            tensor[0, 1, : shape[2] - 10] = special  # whole chunks of it
    pair = [laid_out(x, layout) for x in pair]
    for alpha in (0.0, 0.1):
        options = {"reduction": "none", "alpha": alpha}
        found, expected = (channelwise_kl(*pair, backend=b, **options) for b in BACKENDS)
        torch.testing.assert_close(found, expected, equal_nan=True)


def test_a_row_of_minus_infinity_is_nan() -> None:
    for shape in ((1, 2, 4, 4), LONG):
        input = torch.randn(shape)
        input[0, 0] = -math.inf
        found, expected = (
            channelwise_kl(input, input, backend=b, reduction="none") for b in BACKENDS
        )
        torch.testing.assert_close(found, expected, equal_nan=True)


def test_one_pixel_and_ties() -> None:
    single = with_gradients(torch.randn(2, 3, 1, 1), torch.randn(2, 3, 1, 1), backend="triton")
    assert not any(value.any() for value in single)
    assert channelwise_kl(torch.full((2, 3, 4), 7.0), torch.zeros(2, 3, 4), backend="triton") == 0


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)])
@pytest.mark.parametrize("reduction", ["mean", "batchmean", "channelmean", "sum", "none"])
def test_empty_maps(shape, reduction) -> None:
    empty = torch.empty(shape)
    found, expected = (
        channelwise_kl(empty, empty.clone(), reduction=reduction, backend=b) for b in BACKENDS
    )
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert with_gradients(empty, empty, reduction=reduction, backend="triton")[1].shape == shape


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_half_is_at_most_twice_as_wrong_as_eager(dtype, layout) -> None:
    pair = [laid_out(torch.randn(1, 8, 16, 24).to(dtype), layout) for _ in range(2)]
    found = with_gradients(*pair, backend="triton", reduction="sum")
    true = with_gradients(*(x.double() for x in pair), backend="reference", reduction="sum")
    a, b = (x.clone().requires_grad_() for x in pair)
    p, q = (x.flatten(2).log_softmax(2) for x in (a, b))
    loss = torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum")
    eager = [loss.detach(), *torch.autograd.grad(loss * 3, (a, b))]
    for mine, theirs, exact in zip(found, eager, true, strict=True):
        ours, others = ((x.double() - exact).abs().max() for x in (mine, theirs))
        assert ours <= 2 * others + torch.finfo(dtype).eps * exact.abs().max()


def test_second_derivative_is_refused() -> None:
    a, b = (torch.randn(1, 2, 3, 4, requires_grad=True) for _ in range(2))
    loss = channelwise_kl(a, b, backend="triton")
    (gradient,) = torch.autograd.grad(loss, a, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        gradient.square().sum().backward()


@pytest.mark.parametrize("value", [1e4, -1e4, 50.0, -50.0, 0.0])
@pytest.mark.parametrize("label", [0, 1])
def test_extreme_logits(value, label) -> None:
    results = []
    for backend, dtype in zip(BACKENDS, (torch.float32, torch.float64), strict=True):
        logits = torch.full((2, 1, 8, 9), value, dtype=dtype, requires_grad=True)
        mask = torch.full((2, 1, 8, 9), bool(label))
        loss = dual_mask_loss(logits, logits, mask, backend=backend)
        loss.backward()
        results.append((loss.detach().double(), logits.grad.double()))
    for found, exact in zip(*results, strict=True):
        assert found.isfinite().all()
        torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("special", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("pos_weight", [1.0, torch.tensor(2.0)])
def test_special_logits_stay_visible(special, pos_weight) -> None:
    """As in the reference, but for an inf in place of its NaN."""
    logits, mask = torch.randn(3, 1, 5, 5), torch.rand(3, 1, 5, 5) > 0.5
    logits[1, 0, 2, 2] = special
    found, expected = (
        bce_dice_loss(logits, mask, pos_weight=pos_weight, reduction="none", backend=b)
        for b in BACKENDS
    )
    assert found.isfinite().tolist() == expected.isfinite().tolist() == [True, False, True]
    torch.testing.assert_close(found[::2], expected[::2])


@pytest.mark.parametrize("shape", [(0, 1, 4, 4), (2, 0), (2, 1, 0, 4)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_empty_logits(shape, reduction) -> None:
    logits, mask = torch.empty(shape, requires_grad=True), torch.empty(shape) > 0
    found, expected = (
        bce_dice_loss(logits, mask, reduction=reduction, backend=b) for b in BACKENDS
    )
    torch.testing.assert_close(found, expected, equal_nan=True)
    found.sum().backward()
    assert logits.grad is not None and logits.grad.shape == shape


def test_everything_ignored() -> None:
    logits, mask = torch.randn(2, 1, 5, 5), torch.randint(0, 2, (2, 1, 5, 5)).byte()
    mask[0] = 2
    found, expected = (
        bce_dice_loss(logits, mask, ignore_index=2, reduction="none", backend=b) for b in BACKENDS
    )
    torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("levels", [1, 8])
def test_budget(dtype, levels) -> None:
    """Exactly in half types, to one ulp of the sum in float32 and float64, exactly in 8 bits."""
    image = (torch.randint(0, 256, (2, 3, 20, 20)) / 255).to(dtype)
    adv, eps = image.clone(), levels / 255
    for _ in range(6):
        pgd_step_(adv, torch.randn(image.shape).to(dtype), image, eps / 2, eps, backend="triton")
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    slack = 0.0 if dtype in HALVES else torch.finfo(dtype).eps
    distance = (adv.to(wide) - image.to(wide)).abs().max()
    assert distance <= torch.tensor(eps, dtype=wide) + slack
    assert adv.min() >= 0 and adv.max() <= 1
    if dtype not in HALVES:
        assert ((adv * 255).round() - (image * 255).round()).abs().max() == levels


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_types_step_back_as_the_compiled_library(norm, dtype) -> None:
    """Bit for bit where the arithmetic before the rounding is the same."""
    image, noise = torch.rand(2, 3, 16, 16).to(dtype), (torch.randn(2, 3, 16, 16) * 0.1).to(dtype)
    for eps in (0.03, 1 / 255, 0.0):
        found, expected = (
            clamp_project(image, noise, eps, norm=norm, backend=b) for b in ("triton", "cpu")
        )
        assert torch.equal(found, expected) or (
            norm == "l2" and (found != expected).float().mean() < 0.01
        )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_zero_gradient_moves_nothing(norm) -> None:
    image = torch.rand(2, 3, 4, 4)
    zero = torch.zeros_like(image)
    momentum = zero.clone()
    options = {"norm": norm, "backend": "triton"}
    assert torch.equal(pgd_step_(image.clone(), zero, image, 0.1, 0.1, **options), image)
    momentum_step_(adv := image.clone(), momentum, zero, image, 0.1, 0.1, **options)
    assert torch.equal(adv, image) and not momentum.any()


def test_a_gradient_too_small_to_be_squared_in_float32() -> None:
    image, grad = torch.rand(2, 3, 4, 4), torch.randn(2, 3, 4, 4) * 1e-25
    found, expected = (
        pgd_step_(image.clone(), grad, image, 0.1, 0.1, norm="l2", backend=b)
        for b in ("triton", "cpu")
    )
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found, image)


def test_nan_gradient_and_nan_image() -> None:
    image, grad = torch.rand(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    grad[0, 0, 0, 0] = torch.nan
    image[1, 0, 0, 0] = torch.nan
    found, expected = (pgd_step_(image.clone(), grad, image, 0.1, 0.1, backend=b) for b in BACKENDS)
    torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_gradient_at_the_borders_is_autograds(norm) -> None:
    image = torch.tensor([[0.0, 1.0, 0.5, 0.0, 1.0, 0.5]])
    noise = torch.tensor([[0.0, 0.0, 0.1, -0.1, 0.1, -0.3]])
    results = []
    for backend in BACKENDS:
        x, p = image.clone().requires_grad_(), noise.clone().requires_grad_()
        clamp_project(x, p, 0.1, norm=norm, backend=backend).sum().backward()
        results.append((x.grad, p.grad))
    torch.testing.assert_close(results[0], results[1])


def test_another_range() -> None:
    image, noise = torch.rand(2, 3, 4, 4) * 2 - 1, torch.randn(2, 3, 4, 4)
    found = clamp_project(image, noise, 0.5, min=-1.0, max=1.0, backend="triton")
    torch.testing.assert_close(found, (image + noise.clamp(-0.5, 0.5)).clamp(-1, 1))


def test_empty_images() -> None:
    for shape in [(0, 3, 4, 4), (2, 0)]:
        empty = torch.empty(shape, requires_grad=True)
        result = clamp_project(empty, empty.detach(), 0.1, norm="l2", backend="triton")
        result.sum().backward()
        assert result.shape == shape
        plain = empty.detach().clone()
        momentum_step_(plain, plain.clone(), plain, plain.clone(), 0.1, 0.1, backend="triton")
    no_bytes = torch.empty(0, 4, 4, 3, dtype=torch.uint8)
    assert image_pack(no_bytes, backend="triton").shape == (0, 3, 4, 4)
    assert image_unpack(torch.empty(2, 3, 0, 4), backend="triton").shape == (2, 0, 4, 3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_round_trip_of_every_level(dtype, memory_format) -> None:
    images = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 16, 16, 3)
    options = {"memory_format": memory_format, "dtype": dtype}
    packed, expected = (image_pack(images, backend=b, **options) for b in BACKENDS)
    assert torch.equal(packed, expected) and packed.stride() == expected.stride()
    if dtype != torch.bfloat16:
        assert torch.equal(image_unpack(packed, backend="triton"), images)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_halfway_between_levels(dtype) -> None:
    halves = ((torch.arange(255) + 0.5) / 255).to(dtype)
    around = [halves]
    for towards in (0.0, 1.0):
        step = halves
        for _ in range(4):
            step = torch.nextafter(step, torch.tensor(towards, dtype=dtype))
            around.append(step)
    image = torch.cat([*around, torch.tensor([-3.0, 2.0, math.nan], dtype=dtype)])
    image = image.expand(1, 3, 1, -1).contiguous()
    for noise in (None, torch.zeros_like(image)):
        found, expected = (image_unpack(image, noise, backend=b) for b in BACKENDS)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("levels", [0, 2.5, 8])
def test_budget_holds_exactly_in_8_bits(dtype, levels) -> None:
    images = torch.randint(0, 256, (2, 20, 20, 3), dtype=torch.uint8)
    packed = image_pack(images, dtype=dtype, backend="triton")
    noise = torch.randn(packed.shape).to(dtype)
    moved = image_unpack(packed, noise, levels / 255, backend="triton").int()
    assert (moved - image_unpack(packed, backend="triton").int()).abs().max() == int(levels)
