from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ansm_fast.losses import Focal
from ansm_fast.ops import focal_loss
from ansm_fast.ops.cases import HALVES, LAYOUTS, laid_out
from ansm_fast.ops.focal.cases import eager_loss

from .conftest import BACKENDS, error
from .masks import INFINITY, NAN, each_backend

SHAPE = (2, 1, 6, 7)
GAMMAS = (0.0, 0.5, 1.0, 2.0, 3.5)


def with_gradient(logits: Tensor, mask: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    logits = logits.detach().requires_grad_()
    loss = focal_loss(logits, mask, **options)
    weight = torch.arange(1, loss.numel() + 1, dtype=loss.dtype).reshape(loss.shape)
    return loss.detach(), torch.autograd.grad((loss * weight).sum(), logits)[0]


def drawn(shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, Tensor]:
    """Logits and a mask."""
    return torch.randn(shape) * 3, torch.rand(shape) > 0.5


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


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_losses_and_gradients_lie_as_the_logits(layout) -> None:
    logits, mask = drawn((2, 3, 4, 5))
    logits = laid_out(logits, layout)
    loss, gradient = with_gradient(logits, mask, reduction="none")
    assert loss.stride() == gradient.stride() == logits.stride()


def test_same_bits_for_any_number_of_threads() -> None:
    logits, mask = drawn((3, 1, 300, 301))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(with_gradient(logits, mask, backend="cpu"))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_allocates_one_gradient() -> None:
    """Nothing else of the size of the logits, forward and backward together."""
    logits, mask = torch.randn(4, 1, 256, 256, requires_grad=True), torch.rand(4, 1, 256, 256) > 0.5
    size = logits.numel() * logits.element_size()
    focal_loss(logits, mask).backward()
    logits.grad = None
    with torch.profiler.profile(profile_memory=True, activities=[
        torch.profiler.ProfilerActivity.CPU
    ]) as profile:  # fmt: skip
        focal_loss(logits, mask).backward()
    allocated = sum(
        event.self_cpu_memory_usage for event in profile.events() if event.self_cpu_memory_usage > 0
    )
    assert size <= allocated < 1.1 * size


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiles_without_a_break(dynamic, reduction) -> None:
    torch._dynamo.reset()

    def function(z: Tensor, m: Tensor) -> Tensor:
        return focal_loss(z * 2, m, reduction=reduction, ignore_index=7).sum()

    compiled = torch.compile(function, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for layout in ("contiguous", "channels_last"):
        for size in ((2, 3, 4, 5), (3, 4, 7, 6)):
            logits, mask = drawn(size)
            results = []
            for run in (function, compiled):
                leaf = laid_out(logits, layout).requires_grad_()
                loss = run(leaf, mask)
                results.append([loss, torch.autograd.grad(loss * 2, leaf)[0]])
            torch.testing.assert_close(results[1], results[0])


def test_second_derivative_is_refused() -> None:
    logits, mask = drawn()
    logits.requires_grad_()
    for reduction in ("mean", "none"):
        loss = focal_loss(logits, mask, reduction=reduction).sum()
        (gradient,) = torch.autograd.grad(loss, logits, create_graph=True)
        with pytest.raises(RuntimeError, match="no second derivative; pass backend='reference'"):
            gradient.square().sum().backward()
    loss = focal_loss(logits, mask, backend="reference")
    (gradient,) = torch.autograd.grad(loss, logits, create_graph=True)
    gradient.square().sum().backward()
    assert logits.grad is not None and logits.grad.any()


def test_torch_func_and_batched_gradients() -> None:
    logits, mask = drawn()
    expected = with_gradient(logits, mask)[1]
    torch.testing.assert_close(torch.func.grad(lambda z: focal_loss(z, mask))(logits), expected)
    each = torch.func.vmap(torch.func.grad(focal_loss))(logits, mask)
    alone = torch.stack([with_gradient(z, m)[1] for z, m in zip(logits, mask, strict=True)])
    torch.testing.assert_close(each, alone)
    leaf = logits.clone().requires_grad_()
    losses = focal_loss(leaf, mask, reduction="none")
    factors = torch.stack([torch.ones(SHAPE), torch.rand(SHAPE)])
    (batched,) = torch.autograd.grad(losses, leaf, factors, is_grads_batched=True)
    separate = [
        torch.autograd.grad(focal_loss(leaf, mask, reduction="none"), leaf, f)[0] for f in factors
    ]
    torch.testing.assert_close(batched, torch.stack(separate))


def test_forward_mode_takes_the_reference() -> None:
    logits, mask = drawn()
    direction = torch.randn(SHAPE)
    _, found = torch.func.jvp(lambda z: focal_loss(z, mask), (logits,), (direction,))
    torch.testing.assert_close(found, (with_gradient(logits, mask)[1] * direction).sum())


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"logits": torch.zeros(2, 1, 4, 4).int()}, TypeError, "logits must be float32"),
        ({"mask": torch.zeros(2, 1, 4, 5)}, ValueError, "mask must have the shape"),
        ({"mask": torch.zeros(2, 4, 4)}, ValueError, "mask.unsqueeze(1)"),
        ({"mask": torch.zeros(2, 1, 4, 4).long()}, TypeError, "mask must be bool"),
        ({"mask": torch.zeros(2, 1, 4, 4, requires_grad=True)}, ValueError, "mask.detach()"),
        ({"mask": None}, TypeError, "mask must be a tensor"),
        ({"alpha": 1.5}, ValueError, "alpha must be in [0, 1], or None"),
        ({"alpha": NAN}, ValueError, "alpha must be finite"),
        ({"alpha": torch.tensor(0.5)}, TypeError, "alpha must be a number"),
        ({"gamma": -0.5}, ValueError, "gamma must be >= 0"),
        ({"gamma": INFINITY}, ValueError, "gamma must be >= 0 and finite"),
        ({"gamma": None}, TypeError, "gamma must be a number"),
        ({"pos_weight": torch.ones(3)}, ValueError, "one element"),
        ({"pos_weight": -1.0}, ValueError, "pos_weight must be >= 0"),
        ({"ignore_index": 300}, ValueError, "ignore_index must be in 0..255"),
        ({"reduction": "max"}, ValueError, "reduction must be one of"),
    ],
)
def test_errors(arguments, kind, words) -> None:
    given: dict[str, Any] = {
        "logits": torch.zeros(2, 1, 4, 4), "mask": torch.zeros(2, 1, 4, 4).byte(),
    } | arguments  # fmt: skip
    with pytest.raises(kind) as caught:
        focal_loss(**given)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_module() -> None:
    logits, mask = drawn()
    options: dict[str, Any] = {
        "alpha": None, "gamma": 1.5, "ignore_index": 1, "reduction": "sum",
    }  # fmt: skip
    module = Focal(pos_weight=torch.tensor([2.0]), **options)
    torch.testing.assert_close(
        module(logits, mask.byte()), focal_loss(logits, mask.byte(), pos_weight=2.0, **options)
    )
    assert list(module.state_dict()) == ["pos_weight"]
    assert "gamma=1.5" in repr(module)
    with pytest.raises(ValueError, match="gamma must be >= 0"):
        Focal(gamma=-1)
    with pytest.raises(ValueError, match="alpha must be in"):
        Focal(alpha=2)
