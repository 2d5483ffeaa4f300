"""The focal loss in autograd, under the compiler and as a module; its layouts, memory, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ansm_fast.losses import Focal
from ansm_fast.ops import focal_loss
from ansm_fast.ops.cases import laid_out

from .focal_calls import SHAPE, drawn, with_gradient
from .masks import INFINITY, NAN


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
