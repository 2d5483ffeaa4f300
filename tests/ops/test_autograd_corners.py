"""Ways into autograd that few calls take: the right value, or an error that says what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.functional import hessian, hvp, jacobian

from ansm_fast.ops import (
    bce_dice_loss,
    channelwise_kl,
    clamp_project,
    dual_mask_loss,
    image_unpack,
    momentum_step_,
    pgd_step_,
)
from ansm_fast.ops.backends import BackendError

SHAPE = (2, 3, 4, 5)


def other() -> Tensor:
    return torch.linspace(-2, 3, 120).sin().view(SHAPE)


def mask() -> Tensor:
    return other() > 0


# Functions of one map, with more than one result each.
CALLS = {
    "channelwise_kl": lambda x, **k: channelwise_kl(x, other().to(x), reduction="none", **k),
    "channelwise_kl of pairs": lambda x, **k: torch.stack(
        channelwise_kl([x, 2 * x], [other().to(x), x], reduction="none", **k)
    ),
    "channelwise_kl, mean of pairs": lambda x, **k: channelwise_kl(
        [x, 2 * x], [other().to(x), x], **k
    ),
    "bce_dice_loss": lambda x, **k: bce_dice_loss(x, mask(), reduction="none", **k),
    "dual_mask_loss": lambda x, **k: dual_mask_loss(x, x * x, mask(), reduction="none", **k),
    "clamp_project": lambda x, **k: clamp_project(other().to(x), x, 0.4, **k),
    "clamp_project l2": lambda x, **k: clamp_project(other().to(x), x, 0.4, norm="l2", **k),
}


@pytest.fixture
def point() -> Tensor:
    return torch.randn(SHAPE, dtype=torch.float64)


@pytest.mark.parametrize("name", CALLS)
def test_forward_mode(name, point) -> None:
    call, direction = CALLS[name], torch.randn(SHAPE, dtype=torch.float64)
    expected = jacobian(call, point).flatten(-4) @ direction.flatten()
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(call(forward_ad.make_dual(point, direction))).tangent
    assert found is not None
    assert torch.allclose(found, expected.view_as(found), atol=1e-12)
    _, found = torch.func.jvp(call, (point,), (direction,))
    assert torch.allclose(found, expected.view_as(found), atol=1e-12)


def test_forward_mode_of_a_forced_backend() -> None:
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(torch.rand(SHAPE), torch.rand(SHAPE))
        with pytest.raises(BackendError, match="no forward-mode derivative"):
            channelwise_kl(dual, other(), backend="cpu")
        # Nothing to differentiate: as ever.
        channelwise_kl(torch.rand(SHAPE), other(), backend="cpu")


@pytest.mark.parametrize("name", [*CALLS, *(f"{name} float16" for name in list(CALLS)[:3])])
def test_batched_gradients(name, point) -> None:
    """Of float16 too, whose gradients of channelwise_kl the backward makes."""
    half = name.endswith(" float16")
    call = CALLS[name.removesuffix(" float16")]

    def given(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.float16, enabled=half):
            return call(x.half() if half else x)

    expected = jacobian(given, point)
    assert torch.allclose(jacobian(given, point, vectorize=True), expected, atol=1e-12)
    leaf = point.clone().requires_grad_()
    result = given(leaf)
    basis = torch.eye(result.numel(), dtype=result.dtype).view(-1, *result.shape)
    batched = torch.func.vmap(
        lambda row: torch.autograd.grad(result, leaf, row, retain_graph=True)[0]
    )(basis)
    assert torch.allclose(batched.view_as(expected), expected, atol=1e-12)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_second_derivative_is_never_silently_zero(name, dtype) -> None:
    """Nor where it is asked for by one tensor alone: ``backward()`` of it runs the whole graph."""
    call, point = CALLS[name], torch.randn(SHAPE, dtype=dtype)

    def total(x: Tensor) -> Tensor:
        return call(x).square().sum()

    none = pytest.raises(RuntimeError, match="no second derivative; pass backend='reference'")
    with none:
        hessian(total, point)
    with none:
        hvp(total, point, point)
    for graph in ({"create_graph": True}, {"create_graph": True, "retain_graph": False}):
        leaf, weight = point.clone().requires_grad_(), torch.ones((), requires_grad=True)
        (first,) = torch.autograd.grad(weight * total(leaf * 1), leaf, **graph)
        with none:
            torch.autograd.grad(first.sum(), leaf, allow_unused=True, retain_graph=True)
        with none:  # the first derivative is linear in what comes before
            torch.autograd.grad(first.sum(), weight, allow_unused=True)


def test_links_for_second_derivatives_keep_no_memory() -> None:
    maps = torch.randn(2, 3, 64, 64, requires_grad=True) * 1
    alive, loss = torch.multiprocessing.reductions.StorageWeakRef(maps.untyped_storage()), None
    loss = channelwise_kl(maps, torch.randn(2, 3, 64, 64))
    assert not alive.expired()
    del maps
    assert alive.expired()
    loss.backward()


@pytest.mark.parametrize("backend", [None, "cpu", "reference"])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x, **k: clamp_project(other(), other(), x, **k), "eps"),
        (lambda x, **k: pgd_step_(other(), other(), other(), x, 0.1, **k), "alpha"),
        (lambda x, **k: pgd_step_(other(), other(), other(), 0.1, x, **k), "eps"),
        (lambda x, **k: image_unpack(other(), other(), x, **k), "eps"),
        (lambda x, **k: bce_dice_loss(other(), mask(), pos_weight=x[0], **k), "pos_weight"),
        (lambda x, **k: bce_dice_loss(other(), x.view(-1, 1, 1, 1) + 0 * other(), **k), "mask"),
        (lambda x, **k: dual_mask_loss(
            other(), other(), mask(), bce_target=x.view(-1, 1, 1, 1) + 0 * other(), **k
        ), "bce_target"),
    ],
)  # fmt: skip
def test_constants_have_no_tangent(call, name, backend) -> None:
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(torch.full((2,), 0.5), torch.ones(2))
        with pytest.raises(ValueError, match=rf"{name} is a constant of.*{name}\.detach\(\)"):
            call(dual, backend=backend)


def test_a_tangent_of_the_second_logits() -> None:
    def call(x: Tensor) -> Tensor:
        return dual_mask_loss(other(), x, mask())

    point, direction = torch.randn(SHAPE), torch.randn(SHAPE)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(call(forward_ad.make_dual(point, direction))).tangent
    assert torch.allclose(found, (jacobian(call, point) * direction).sum())


def test_budgets_under_vmap() -> None:
    image, noise, budgets = torch.rand(SHAPE), torch.randn(SHAPE), torch.tensor([0.1, 0.3])
    found = torch.func.vmap(lambda eps: clamp_project(image, noise, eps))(budgets)
    expected = torch.stack([clamp_project(image, noise, eps) for eps in budgets])
    assert torch.equal(found, expected)


def steps(adv: Tensor, momentum: Tensor | None = None) -> list:
    grad, image = torch.randn(SHAPE), torch.rand(SHAPE)
    held = torch.zeros(SHAPE) if momentum is None else momentum
    return [
        lambda **k: pgd_step_(adv, grad, image, 0.1, 0.2, **k),
        lambda **k: momentum_step_(adv, held, grad, image, 0.1, 0.2, **k),
    ]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("index", [0, 1])
def test_a_step_overwrites_nothing_that_autograd_follows(index, backend) -> None:
    leaf = torch.rand(SHAPE).requires_grad_()
    for adv in (leaf, leaf * 1):
        before = adv.detach().clone()
        with pytest.raises(ValueError, match=r"adv requires grad.*adv\.detach\(\)"):
            steps(adv)[index](backend=backend)
        assert torch.equal(adv.detach(), before)
        with torch.no_grad():  # as an optimizer does
            assert not torch.equal(steps(adv)[index](backend=backend), before)
    if index == 1:
        with pytest.raises(ValueError, match="momentum requires grad"):
            steps(torch.rand(SHAPE), torch.zeros(SHAPE, requires_grad=True))[1](backend=backend)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_step_overwrites_no_shared_memory(backend) -> None:
    expanded = torch.rand(1, 3, 4, 5).expand(SHAPE)
    for step in steps(expanded):
        with pytest.raises(ValueError, match=r"adv is expanded.*adv\.clone\(\)"):
            step(backend=backend)
    with pytest.raises(ValueError, match="momentum is expanded"):
        steps(torch.rand(SHAPE), expanded)[1](backend=backend)
    # Read only: any strides.
    adv, other_adv = torch.rand(SHAPE), torch.rand(SHAPE)
    other_adv.copy_(adv)
    pgd_step_(adv, expanded, expanded, 0.1, 0.2, backend=backend)
    pgd_step_(other_adv, expanded.clone(), expanded.clone(), 0.1, 0.2, backend=backend)
    assert torch.equal(adv, other_adv)
    one = torch.rand(1, 3, 4, 5).expand(1, 3, 4, 5)
    pgd_step_(one, torch.rand(1, 3, 4, 5), torch.rand(1, 3, 4, 5), 0.1, 0.2, backend=backend)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: clamp_project(other(), other(), torch.tensor(0.1, requires_grad=True)),
         ValueError, r"eps is a constant.*eps\.detach\(\)"),
        (lambda: pgd_step_(other(), other(), other(), torch.ones(2, requires_grad=True), 0.1),
         ValueError, r"alpha is a constant.*alpha\.detach\(\)"),
        (lambda: image_unpack(other(), other(), torch.tensor(0.1, requires_grad=True)),
         ValueError, r"eps is a constant"),
        (lambda: clamp_project(other(), other(), 0.1, min=torch.zeros(3, 1, 1)),
         TypeError, r"min must be a number, got a tensor of shape \(3, 1, 1\)"),
        (lambda: pgd_step_(other(), other(), other(), 0.1, 0.1, max=torch.ones(3)),
         TypeError, "max must be a number"),
        (lambda: clamp_project(other(), other(), 0.1, min=np.zeros(3)),
         TypeError, "min must be a number, got ndarray"),
        (lambda: clamp_project(other(), other(), [0.1, 0.2]),
         TypeError, "eps must be a number, got list"),
        (lambda: momentum_step_(other(), other(), other(), other(), 0.1, 0.1,
                                decay=torch.tensor(1.0)),
         TypeError, "decay must be a number"),
        (lambda: channelwise_kl(other(), other(), temperature=torch.tensor(4.0)),
         TypeError, r"temperature must be a number, got a tensor.*temperature\.item\(\)"),
        (lambda: channelwise_kl(other(), other(), alpha="0"), TypeError,
         "alpha must be a number, got str"),
        (lambda: channelwise_kl(other(), other(), alpha=torch.inf), ValueError,
         "alpha must be >= 0 and finite, got inf"),
        (lambda: channelwise_kl(other(), other(), temperature=torch.inf), ValueError,
         "temperature must be finite, got inf"),
        (lambda: momentum_step_(other(), other(), other(), other(), 0.1, 0.1, decay=torch.nan),
         ValueError, "decay must be finite, got nan"),
        (lambda: channelwise_kl(None, other()), TypeError,
         "input must be a tensor or a list of tensors, got NoneType"),
        (lambda: channelwise_kl([other()], {"a": other()}), TypeError,
         "target must be a tensor or a list of tensors, got dict"),
        (lambda: channelwise_kl(map(abs, [other()]), [other()]), TypeError,
         "input must be a tensor or a list of tensors, got map"),
        (lambda: bce_dice_loss(other(), mask().to("meta")), ValueError,
         r"mask must be on the device of the logits.*mask\.to\(logits\.device\)"),
    ],
)  # fmt: skip
def test_what_is_no_constant_number(call, kind, words) -> None:
    with pytest.raises(kind, match=words):
        call()


def test_numbers_of_numpy_are_numbers() -> None:
    image = torch.rand(SHAPE)
    found = clamp_project(image, image, np.float32(0.5), min=np.float64(0), max=np.int64(1))
    assert torch.equal(found, clamp_project(image, image, 0.5))
    assert channelwise_kl(image, other(), temperature=np.float32(2)).isfinite()
