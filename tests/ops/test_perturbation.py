from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ansm_fast.ops import clamp_project, momentum_step_, pgd_step_
from ansm_fast.ops.cases import DTYPES, HALVES, LAYOUTS, laid_out

from .conftest import BACKENDS

SHAPES = [(1, 3, 1, 1), (2, 3, 7, 5), (3, 1, 40, 33), (2, 9), (2, 3, 3, 4, 5)]
NORMS = ("linf", "l2")


def images(shape: tuple[int, ...], dtype: torch.dtype, layout: str = "contiguous") -> list[Tensor]:
    """Image in [0, 1], perturbation of about 0.1, gradient."""
    generator = torch.Generator().manual_seed(sum(shape))
    drawn = [
        torch.rand(shape, generator=generator, dtype=torch.float64),
        torch.randn(shape, generator=generator, dtype=torch.float64) * 0.1,
        torch.randn(shape, generator=generator, dtype=torch.float64),
    ]
    return [laid_out(value.to(dtype), layout) for value in drawn]


def close(found: Tensor, true: Tensor, dtype: torch.dtype) -> None:
    assert found.dtype == dtype
    bound = {torch.float64: 1e-12, torch.float32: 3e-6}.get(dtype, 2 * torch.finfo(dtype).eps)
    torch.testing.assert_close(found.double(), true.double(), rtol=bound, atol=bound)


def budget(kind: str, batch: int) -> float | Tensor:
    return 0.05 if kind == "number" else torch.linspace(0.0, 0.2, batch)


@given(
    shape=st.sampled_from(SHAPES),
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from(DTYPES),
    norm=st.sampled_from(NORMS),
    kind=st.sampled_from(["number", "per sample"]),
)
def test_clamp_project_equals_float64_truth(shape, layout, dtype, norm, kind) -> None:
    image, perturbation, _ = images(shape, dtype, layout)
    eps = budget(kind, shape[0])
    found = clamp_project(image, perturbation, eps, norm=norm, backend="cpu")
    exact = clamp_project(
        image.double(), perturbation.double(), eps, norm=norm, backend="reference"
    )
    close(found, exact, dtype)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["number", "per sample"])
def test_clamp_project_gradcheck(norm, kind) -> None:
    image, perturbation, _ = images((3, 3, 2, 3), torch.float64)
    eps = 0.05 if kind == "number" else torch.tensor([0.01, 0.3, 5.0])
    assert torch.autograd.gradcheck(
        lambda x, p: clamp_project(x, p, eps, norm=norm, backend="cpu"),
        (image.requires_grad_(), perturbation.requires_grad_()),
    )


@pytest.mark.parametrize("norm", NORMS)
def test_clamp_project_gradient_at_the_borders_is_autograds(norm) -> None:
    """Pixels at 0 and 1 and perturbations of exactly eps are where formulas differ."""
    image = torch.tensor([[0.0, 1.0, 0.5, 0.0, 1.0, 0.5]])
    perturbation = torch.tensor([[0.0, 0.0, 0.1, -0.1, 0.1, -0.3]])
    results = []
    for backend in BACKENDS:
        x, p = image.clone().requires_grad_(), perturbation.clone().requires_grad_()
        clamp_project(x, p, 0.1, norm=norm, backend=backend).sum().backward()
        results.append((x.grad, p.grad))
    torch.testing.assert_close(results[0], results[1])


@given(
    shape=st.sampled_from(SHAPES),
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    norm=st.sampled_from(NORMS),
    kind=st.sampled_from(["number", "per sample"]),
    momentum=st.booleans(),
)
def test_steps_equal_float64_truth(shape, layout, dtype, norm, kind, momentum) -> None:
    image, perturbation, grad = images(shape, dtype, layout)
    adv = laid_out((image + perturbation * 0.2).clamp(0, 1), layout)
    alpha, eps = budget(kind, shape[0]), budget(kind, shape[0])
    velocity = laid_out(torch.randn(shape, dtype=dtype), layout)

    def step(tensors: list[Tensor], backend: str) -> list[Tensor]:
        a, m, g, x = tensors
        options: dict[str, Any] = {"norm": norm, "backend": backend}
        if momentum:
            returned = momentum_step_(a, m, g, x, alpha, eps, decay=0.8, **options)
        else:
            returned = pgd_step_(a, g, x, alpha, eps, **options)
        assert returned is a
        return [a, m]

    tensors = [adv, velocity, grad, image]
    exact = step([tensor.double().clone() for tensor in tensors], "reference")
    for found, true in zip(step(tensors, "cpu"), exact, strict=True):
        close(found, true, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("levels", [1, 4, 8])
def test_budget(dtype, levels) -> None:
    """Exactly in half types, to one ulp of the sum in float32 and float64, exactly in 8 bits."""
    image = (torch.randint(0, 256, (2, 3, 40, 40)) / 255).to(dtype)
    adv, eps = image.clone(), levels / 255
    for _ in range(12):
        pgd_step_(adv, torch.randn(image.shape).to(dtype), image, eps / 3, eps)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    distance = (adv.to(wide) - image.to(wide)).abs().max()
    slack = 0.0 if dtype in HALVES else torch.finfo(dtype).eps
    assert distance <= torch.tensor(eps, dtype=wide) + slack
    assert adv.min() >= 0 and adv.max() <= 1
    if dtype in (torch.float32, torch.float64):
        shift = (adv * 255).round() - (image * 255).round()
        assert shift.abs().max() == levels


@pytest.mark.parametrize("norm", NORMS)
def test_zero_gradient_moves_nothing(norm) -> None:
    image = torch.rand(2, 3, 4, 4)
    zero = torch.zeros_like(image)
    momentum = zero.clone()
    assert torch.equal(pgd_step_(image.clone(), zero, image, 0.1, 0.1, norm=norm), image)
    momentum_step_(adv := image.clone(), momentum, zero, image, 0.1, 0.1, norm=norm)
    assert torch.equal(adv, image) and not momentum.any()


@pytest.mark.parametrize("eps", [0.0, torch.zeros(2)])
@pytest.mark.parametrize("norm", NORMS)
def test_zero_budget_changes_nothing(eps, norm) -> None:
    image, perturbation, _ = images((2, 3, 4, 4), torch.float32)
    for backend in BACKENDS:
        assert torch.equal(
            clamp_project(image, perturbation, eps, norm=norm, backend=backend), image
        )


def test_nan_gradient_and_nan_image() -> None:
    image, _, grad = images((2, 3, 4, 4), torch.float32)
    grad[0, 0, 0, 0] = torch.nan
    image[1, 0, 0, 0] = torch.nan
    found, expected = (
        pgd_step_(image.clone(), grad, image, 0.1, 0.1, backend=backend) for backend in BACKENDS
    )
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_range() -> None:
    image = torch.rand(2, 3, 4, 4) * 255
    noise = torch.randn(2, 3, 4, 4) * 100
    found = clamp_project(image, noise, 50.0, min=0.0, max=255.0)
    torch.testing.assert_close(found, (image + noise.clamp(-50, 50)).clamp(0, 255))


def test_empty() -> None:
    for shape in [(0, 3, 4, 4), (2, 0)]:
        empty = torch.empty(shape, requires_grad=True)
        result = clamp_project(empty, empty.detach(), 0.1, norm="l2")
        result.sum().backward()
        assert result.shape == shape
        plain = empty.detach().clone()
        momentum_step_(plain, plain.clone(), plain, plain.clone(), 0.1, 0.1)


def test_autograd_notices_the_overwritten_tensor() -> None:
    weight = torch.rand(2, 3, 4, 4, requires_grad=True)
    adv = torch.rand(2, 3, 4, 4)
    product = weight * adv
    pgd_step_(adv, torch.ones_like(adv), adv.clone(), 0.1, 0.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


def test_same_bits_for_any_number_of_threads() -> None:
    image, perturbation, grad = images((3, 3, 150, 151), torch.float32)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            adv, momentum = image.clone(), perturbation.clone()
            momentum_step_(adv, momentum, grad, image, 0.1, 0.1, norm="l2")
            results.append((adv, momentum, clamp_project(image, perturbation, 0.1, norm="l2")))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"eps": -0.1}, ValueError, "eps must be >= 0, got -0.1"),
        ({"eps": torch.tensor([0.1, -0.1])}, ValueError, "eps must be >= 0"),
        ({"eps": torch.ones(3)}, ValueError, "shape (2,)"),
        ({"eps": float("nan")}, ValueError, "eps must be >= 0"),
        ({"perturbation": torch.zeros(2, 3, 4, 5)}, ValueError, "perturbation must have the shape"),
        ({"perturbation": torch.zeros(2, 3, 4, 4).half()}, TypeError, "perturbation"),
        ({"image": torch.zeros(2, 3, 4, 4).byte()}, TypeError, "image must be float32"),
        ({"image": torch.zeros(3), "perturbation": torch.zeros(3)}, ValueError, "batch"),
        ({"norm": "l1"}, ValueError, "norm must be one of"),
        ({"min": 2.0}, ValueError, "min must be <= max"),
    ],
)
def test_errors(arguments, kind, words) -> None:
    given: dict[str, Any] = {
        "image": torch.zeros(2, 3, 4, 4), "perturbation": torch.zeros(2, 3, 4, 4), "eps": 0.1,
    } | arguments  # fmt: skip
    with pytest.raises(kind) as caught:
        clamp_project(**given)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    given["grad"] = given.pop("perturbation")
    with pytest.raises((ValueError, TypeError)):
        pgd_step_(given["image"].clone(), alpha=0.1, **given)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("length", [1e-30, 1e30])
def test_l2_of_gradients_whose_squares_no_float32_holds(length, backend) -> None:
    image, grad = torch.full((2, 1, 2, 2), 0.5), torch.full((2, 1, 2, 2), length)
    moved = pgd_step_(image.clone(), grad, image, 0.1, 0.1, norm="l2", backend=backend)
    torch.testing.assert_close(moved, image + 0.05)
    moved = clamp_project(image, grad, 0.1, norm="l2", backend=backend)
    torch.testing.assert_close(moved, image + min(length, 0.05))
