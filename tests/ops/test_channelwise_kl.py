from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ansm_fast.ops import channelwise_kl
from ansm_fast.ops.cases import DTYPES, HALVES, LAYOUTS, laid_out
from ansm_fast.ops.channelwise_kl.options import DIRECTIONS, REDUCTIONS

from .conftest import BACKENDS, error


def with_gradients(
    input: Tensor, target: Tensor, weight: Tensor | float = 3.0, **options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, and gradients of its weighted sum in both arguments."""
    input, target = input.detach().requires_grad_(), target.detach().requires_grad_()
    loss = channelwise_kl(input, target, **options)
    gradients = torch.autograd.grad((loss * weight).sum(), (input, target))
    return loss.detach(), *gradients


def truth(input: Tensor, target: Tensor, weight: Tensor | float = 3.0, **options: Any):
    if isinstance(weight, Tensor):
        weight = weight.double()
    return with_gradients(input.double(), target.double(), weight, backend="reference", **options)


@given(
    batch=st.integers(1, 3),
    channels=st.sampled_from([1, 3, 17, 130, 300]),
    space=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    layout=st.sampled_from(LAYOUTS),
    target_layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    direction=st.sampled_from(DIRECTIONS),
    reduction=st.sampled_from(REDUCTIONS),
    alpha=st.sampled_from([0.0, 1e-6, 0.1]),
    temperature=st.sampled_from([1.0, 4.0, 0.3]),
)
def test_equals_float64_truth(
    batch, channels, space, layout, target_layout, dtype, direction, reduction, alpha, temperature
) -> None:
    shape = (batch, channels, *space)
    generator = torch.Generator().manual_seed(sum(shape))
    values = [torch.randn(shape, generator=generator, dtype=dtype) * 3 for _ in range(2)]
    input, target = laid_out(values[0], layout), laid_out(values[1], target_layout)
    weight: Tensor | float = 3.0
    if reduction == "none":
        weight = torch.randn(batch, channels, generator=generator, dtype=dtype)
    options = {
        "direction": direction, "reduction": reduction, "alpha": alpha, "temperature": temperature,
    }  # fmt: skip
    found = with_gradients(input, target, weight, backend="cpu", **options)
    exact = truth(input, target, weight, **options)
    eager = with_gradients(input, target, weight, backend="reference", **options)
    bound = 1e-11 if dtype == torch.float64 else 64 * torch.finfo(dtype).eps
    # Loss and gradient may be small differences of terms of this size, rounded as such.
    share = {"sum": 1, "none": 1, "batchmean": batch, "channelmean": batch * channels}
    spread = float((values[0] - values[1]).abs().max()) / temperature
    terms = 3 / temperature * (1 + spread) / share.get(reduction, values[0].numel())
    for value, peer, true in zip(found, eager, exact, strict=True):
        assert value.shape == true.shape and value.dtype == dtype
        wrong, allowed = ((x.double() - true).abs().max() for x in (value, peer))
        rounded = 4 * torch.finfo(dtype).eps * terms
        assert wrong <= 4 * allowed + bound * true.abs().max() + rounded


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_half_is_at_most_twice_as_wrong_as_eager(dtype, layout) -> None:
    input, target = (laid_out(torch.randn(2, 32, 24, 24).to(dtype), layout) for _ in range(2))
    ours = with_gradients(input, target, 1.0, backend="cpu", reduction="sum")
    a, b = input.clone().requires_grad_(), target.clone().requires_grad_()
    p, q = (x.flatten(2).log_softmax(2) for x in (a, b))
    loss = F.kl_div(q, p, log_target=True, reduction="sum")
    eager = (loss, *torch.autograd.grad(loss, (a, b)))
    true = truth(input, target, 1.0, reduction="sum")
    for mine, theirs, exact in zip(ours, eager, true, strict=True):
        assert error(mine, exact) <= 2 * error(theirs, exact) + torch.finfo(dtype).eps


def test_is_kl_div_of_pytorch() -> None:
    input, target = torch.randn(2, 4, 5, 6), torch.randn(2, 4, 5, 6)
    p, q = (x.flatten(2).log_softmax(2) for x in (input, target))
    forward = F.kl_div(q, p, log_target=True, reduction="sum")
    backward = F.kl_div(p, q, log_target=True, reduction="batchmean")
    torch.testing.assert_close(channelwise_kl(input, target, reduction="sum"), forward)
    torch.testing.assert_close(
        channelwise_kl(input, target, direction="target_input", reduction="batchmean"), backward
    )


def test_paper_formula() -> None:
    """1/c sum_j 1/N sum_k m log((m + alpha) / (q + alpha)), averaged over the batch."""
    input, target, alpha = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), 1e-3
    m, q = (x.flatten(2).softmax(2) for x in (input, target))
    expected = (m * torch.log((m + alpha) / (q + alpha))).sum(2).div(16).mean(1).mean(0)
    torch.testing.assert_close(channelwise_kl(input, target, alpha=alpha), expected)


@pytest.mark.parametrize("alpha", [0.0, 0.05])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_gradcheck(alpha, direction, layout) -> None:
    values = [laid_out(torch.randn(2, 3, 2, 3, dtype=torch.float64), layout) for _ in range(2)]
    assert torch.autograd.gradcheck(
        lambda a, b: channelwise_kl(
            a, b, alpha=alpha, direction=direction, temperature=2.0, backend="cpu"
        ),
        [value.requires_grad_() for value in values],
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_equal_maps_give_exactly_zero(dtype, layout, alpha) -> None:
    for scale in (1.0, 1e4):
        input = laid_out((torch.randn(2, 20, 40, 3) * scale).to(dtype), layout)
        loss, to_input, _ = with_gradients(input, input.clone(), backend="cpu", alpha=alpha)
        assert loss == 0
        if alpha == 0:
            assert not to_input.any()


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_logits(layout, dtype) -> None:
    input, target = (
        laid_out(torch.randn(2, 5, 30, 4, dtype=dtype).sign() * 1e4, layout) for _ in range(2)
    )
    found = with_gradients(input, target, backend="cpu")
    for value, true in zip(found, truth(input, target), strict=True):
        assert value.isfinite().all() and error(value, true) < 1e-5


def test_ties_and_one_pixel() -> None:
    equal = torch.full((2, 3, 4, 4), 7.0)
    assert channelwise_kl(equal, equal * 2) == 0  # both uniform
    single = with_gradients(torch.randn(2, 3, 1, 1), torch.randn(2, 3, 1, 1), backend="cpu")
    assert all(not value.any() for value in single)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("slope", [-0.5, 1e-3, 0.01, 0.5, 30.0])
def test_maxima_that_move_along_the_row(layout, alpha, slope) -> None:
    """The kernels' shifts follow the maxima of what they have read."""
    rise = torch.arange(50 * 70).mul(slope).view(50, 70)
    input, target = torch.randn(2, 3, 50, 70) + rise, torch.randn(2, 3, 50, 70)
    target[:, 1] += 0.7 * rise
    target[1] = input[1]
    for a, b in ((input, target), (target, input)):
        found = with_gradients(
            laid_out(a, layout), laid_out(b, layout), backend="cpu", reduction="none", alpha=alpha
        )
        exact = truth(a, b, reduction="none", alpha=alpha)
        assert not found[0][1].any()
        assert alpha > 0 or not any(gradient[1].any() for gradient in found[1:])
        for value, true in zip(found, exact, strict=True):
            # Differences of logits of this size are rounded before any arithmetic on them.
            rounded = 3 * torch.finfo(torch.float32).eps * float(rise.abs().max() + 1)
            assert (value - true).abs().max() <= 1e-5 * true.abs().max() + rounded


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "misaligned"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("size", [(2, 5, 643, 661), (2, 96, 101, 103)])
def test_gradients_larger_than_the_caches(layout, dtype, size) -> None:
    """Which are stored past them, with and without exponentials kept."""
    input, target = (laid_out(torch.randn(size).to(dtype), layout) for _ in range(2))
    alone = input.clone(memory_format=torch.preserve_format).requires_grad_()
    channelwise_kl(alone, target, reduction="sum", backend="cpu").backward()
    _, to_input, to_target = with_gradients(input, target, 1.0, reduction="sum", backend="cpu")
    _, true_input, true_target = truth(input, target, 1.0, reduction="sum")
    assert alone.grad is not None
    bound = 4 * torch.finfo(dtype).eps if dtype == torch.bfloat16 else 2e-5
    assert error(alone.grad, true_input) < bound
    assert error(to_input, true_input) < bound
    assert error(to_target, true_target) < bound


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("where", ["input", "target", "both"])
@pytest.mark.parametrize("special", [-math.inf, math.inf, math.nan])
def test_special_values_propagate_as_in_the_reference(layout, where, special) -> None:
    input, target = torch.randn(2, 3, 50, 3), torch.randn(2, 3, 50, 3)
    rows = slice(0, 40)  # longer than one tile of the channels-last kernel, at its beginning
    if where != "target":
        input[0, 1, rows] = special
    if where != "input":
        target[0, 1, rows] = special
    for alpha in (0.0, 0.1):
        found, expected = (
            channelwise_kl(
                laid_out(input, layout), laid_out(target, layout), backend=backend,
                reduction="none", alpha=alpha,
            )
            for backend in BACKENDS
        )  # fmt: skip
        torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_empty(shape, reduction) -> None:
    input, target = torch.empty(shape), torch.empty(shape)
    found = [channelwise_kl(input, target, reduction=reduction, backend=name) for name in BACKENDS]
    torch.testing.assert_close(*found, equal_nan=True)
    _, gradient, _ = with_gradients(input, target, reduction=reduction, backend="cpu")
    assert gradient.shape == shape


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_same_bits_for_any_number_of_threads(layout) -> None:
    input, target = (laid_out(torch.randn(3, 70, 40, 41), layout) for _ in range(2))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(with_gradients(input, target, backend="cpu"))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_gradients_only_where_asked() -> None:
    input, target = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 3, 4, 4)
    channelwise_kl(input, target).backward()
    assert input.grad is not None and target.grad is None
    with torch.no_grad():
        assert not channelwise_kl(input, target).requires_grad


def test_backward_twice_with_retained_graph() -> None:
    input, target = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 3, 4, 4)
    loss = channelwise_kl(input, target)
    (first,) = torch.autograd.grad(loss * 2, input, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(loss * 3, input)
    torch.testing.assert_close(first, kept)
    torch.testing.assert_close(second, kept * 1.5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_list_of_pairs(reduction) -> None:
    """The mean of the pairs' losses with its gradients, for maps of any layouts and dtypes."""
    shapes = [(2, 3, 4, 4), (2, 5, 7, 3), (1, 2, 40, 50), (2, 1, 6)]
    dtypes = [torch.float32, torch.float64, torch.float32, torch.bfloat16]
    layouts = ["contiguous", "channels_last", "gaps", "contiguous"]
    maps = [
        [laid_out(torch.randn(shape).to(dtype), layout) for _ in range(2)]
        for shape, dtype, layout in zip(shapes, dtypes, layouts, strict=True)
    ]
    inputs, targets = ([pair[i].requires_grad_(i == 0) for pair in maps] for i in range(2))
    targets[1].requires_grad_()
    leaves = [*inputs, targets[1]]
    together = channelwise_kl(inputs, targets, reduction=reduction, backend="cpu")
    # The bfloat16 loss must not be rounded before the mean is taken.
    wide = [torch.promote_types(dtype, torch.float32) for dtype in dtypes]
    apart = [
        channelwise_kl(a.to(dtype), b.to(dtype), reduction=reduction, backend="cpu")
        for a, b, dtype in zip(inputs, targets, wide, strict=True)
    ]
    if reduction == "none":
        assert [row.shape for row in together] == [shape[:2] for shape in shapes]
        assert all(torch.equal(a, b.to(a)) for a, b in zip(together, apart, strict=True))
        together, apart = (sum(rows.sum().double() for rows in x) for x in (together, apart))
    else:
        apart = torch.stack(apart).mean()
    torch.testing.assert_close(together, apart, rtol=1e-2 if reduction == "none" else 1e-6, atol=0)
    found = torch.autograd.grad(together * 2, leaves)
    expected = torch.autograd.grad(apart * 2, leaves)
    torch.testing.assert_close(found, expected)


def test_a_pair_without_gradient_among_others() -> None:
    a, b, c = (torch.randn(2, 3, 4, 4) for _ in range(3))
    a.requires_grad_()
    channelwise_kl([c, a], [b, c]).backward()
    alone = torch.autograd.grad(channelwise_kl(a, c), a)[0]
    torch.testing.assert_close(a.grad, alone / 2)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"target": torch.zeros(2, 3, 4, 5)}, ValueError, "target must have the shape of input"),
        ({"target": torch.zeros(2, 3, 4, 4).double()}, TypeError, "target.to"),
        ({"target": torch.zeros(2, 3, 4, 4, device="meta")}, ValueError, "device"),
        ({"input": torch.zeros(2, 3, 4, 4).int()}, TypeError, "input must be float32"),
        ({"input": torch.zeros(2, 3), "target": torch.zeros(2, 3)}, ValueError, "(B, C, *space)"),
        ({"temperature": 0.0}, ValueError, "temperature must be > 0"),
        ({"alpha": -1.0}, ValueError, "alpha must be >= 0"),
        ({"direction": "both"}, ValueError, "direction must be one of"),
        ({"reduction": "median"}, ValueError, "reduction must be one of"),
        ({"backend": "cuda"}, RuntimeError, "cuda' cannot run channelwise_kl: "),
        ({"input": [torch.zeros(2, 3, 4)], "target": []}, ValueError, "same length"),
    ],
)
def test_errors(arguments, kind, words) -> None:
    given = {"input": torch.zeros(2, 3, 4, 4), "target": torch.zeros(2, 3, 4, 4)} | arguments
    with pytest.raises(kind) as caught:
        channelwise_kl(given.pop("input"), given.pop("target"), **given)
    assert words in str(caught.value) and "\n" not in str(caught.value)
