"""What PyTorch itself asks of an op: opcheck, compile, autocast, double backward, memory."""

from __future__ import annotations

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
from ansm_fast.ops.cases import laid_out
from tools.cases import described, operators
from tools.ops import OPS

SHAPE = (2, 3, 4, 5)
LAYOUTS = ("contiguous", "channels_last")


def draw(layout: str = "contiguous", grad: bool = False) -> Tensor:
    return laid_out(torch.rand(SHAPE), layout).requires_grad_(grad)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", OPS)
def test_opcheck(op, layout) -> None:
    calls = list(described()[op].opchecks(layout))
    assert {call.op for call in calls} == set(described()[op].operators)
    for call in calls:
        torch.library.opcheck(getattr(torch.ops.ansm_fast, call.op).default, call.arguments)


def test_every_operator_is_described() -> None:
    registered = {
        name.split("::")[1].split(".")[0]
        for name in torch._C._dispatch_get_registrations_for_dispatch_key("CPU")
        if name.startswith("ansm_fast::")
    }
    assert operators().keys() == registered


LOSSES = {
    "kl": lambda a, b: channelwise_kl(a, b, temperature=2.0),
    "kl of pairs": lambda a, b: channelwise_kl([a, b * 2], [b, a], temperature=2.0),
    "kl alpha": lambda a, b: channelwise_kl(a, b, alpha=0.1, direction="target_input"),
    "dual mask": lambda a, b: dual_mask_loss(a, b, (a > 0.5).detach(), pos_weight=2.0),
    "bce dice": lambda a, b: bce_dice_loss(a + b, (a > 0.5).detach()),
    "project": lambda a, b: clamp_project(a, b, 0.3).square().sum(),
    "project l2": lambda a, b: clamp_project(a, b, 0.3, norm="l2").square().sum(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_a_break(name, dynamic) -> None:
    torch._dynamo.reset()
    function = LOSSES[name]
    compiled = torch.compile(function, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for layout in LAYOUTS:
        for size in ((2, 3, 4, 5), (3, 4, 7, 6)):
            results = []
            for run in (function, compiled):
                torch.manual_seed(1)
                a, b = (laid_out(torch.rand(size), layout).requires_grad_() for _ in range(2))
                loss = run(a, b)
                results.append([loss, *torch.autograd.grad(loss * 2, (a, b))])
            torch.testing.assert_close(results[1], results[0])


@pytest.mark.slow
def test_compiles_with_inductor() -> None:
    torch._dynamo.reset()

    def attack(adv: Tensor, grad: Tensor, image: Tensor, velocity: Tensor) -> Tensor:
        pgd_step_(adv, grad, image, 0.1, 0.2)
        momentum_step_(adv, velocity, grad * 2, image, 0.1, 0.2)
        return adv + 0

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return channelwise_kl(a * 2, b) + dual_mask_loss(a, b * 3, a.detach() > 0.5)

    eager, compiled = ([draw(grad=True), draw(grad=True)] for _ in range(2))
    for mine, other in zip(eager, compiled, strict=True):
        other.data.copy_(mine.data)
    loss(*eager).backward()
    torch.compile(loss, fullgraph=True)(*compiled).backward()
    torch.testing.assert_close([x.grad for x in compiled], [x.grad for x in eager])

    tensors = [draw() for _ in range(4)]
    copies = [tensor.clone() for tensor in tensors]
    torch.testing.assert_close(torch.compile(attack, fullgraph=True)(*copies), attack(*tensors))
    torch.testing.assert_close(copies, tensors)


@pytest.mark.slow
def test_packing_compiles() -> None:
    torch._dynamo.reset()
    images = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8)

    def there_and_back(x: Tensor) -> Tensor:
        packed = image_pack(x, memory_format=torch.channels_last)
        return image_unpack(packed, packed * 0.01, 2 / 255)

    compiled = torch.compile(there_and_back, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(images), there_and_back(images))


@pytest.mark.parametrize("name", LOSSES)
def test_second_derivative_is_refused(name) -> None:
    a, b = draw(grad=True), draw(grad=True)
    (gradient, _) = torch.autograd.grad(LOSSES[name](a, b), (a, b), create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative; pass backend='reference'"):
        gradient.square().sum().backward()


def test_reference_has_a_second_derivative() -> None:
    a, b = draw(grad=True), draw()
    loss = channelwise_kl(a, b, backend="reference")
    (gradient,) = torch.autograd.grad(loss, a, create_graph=True)
    gradient.square().sum().backward()
    assert a.grad is not None and a.grad.any()


def test_torch_func_grad() -> None:
    a, b = draw(), draw()
    found = torch.func.grad(lambda x: channelwise_kl(x, b))(a)
    leaf = a.clone().requires_grad_()
    torch.testing.assert_close(found, torch.autograd.grad(channelwise_kl(leaf, b), leaf)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_takes_mixed_dtypes_and_gives_float32(dtype) -> None:
    a, b = draw().to(dtype).requires_grad_(), draw(grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = channelwise_kl(a, b) + bce_dice_loss(a, b.detach() > 0.5)
    assert loss.dtype == torch.float32
    loss.backward()
    assert a.grad is not None and a.grad.dtype == dtype
    assert b.grad is not None and b.grad.dtype == torch.float32
    exact = channelwise_kl(a.detach().double(), b.detach().double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = channelwise_kl(a.detach(), b.detach())
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-7)


def test_channelwise_kl_allocates_one_gradient() -> None:
    """No second tensor of the input's size, forward and backward together."""
    a, b = torch.randn(4, 16, 64, 64, requires_grad=True), torch.randn(4, 16, 64, 64)
    size = a.numel() * a.element_size()
    channelwise_kl(a, b).backward()
    a.grad = None
    with torch.profiler.profile(profile_memory=True, activities=[
        torch.profiler.ProfilerActivity.CPU
    ]) as profile:  # fmt: skip
        channelwise_kl(a, b).backward()
    allocated = sum(
        event.self_cpu_memory_usage for event in profile.events() if event.self_cpu_memory_usage > 0
    )
    assert size <= allocated < 1.1 * size


def test_gradient_is_the_saved_buffer() -> None:
    """Where the loss ends the graph, the backward touches nothing."""
    a, b = torch.randn(2, 4, 8, 8, requires_grad=True), torch.randn(2, 4, 8, 8)
    loss = channelwise_kl(a, b)
    loss.backward()
    other = a.grad.clone()
    a.grad = None
    (channelwise_kl(a, b) * 2).backward()
    torch.testing.assert_close(a.grad, 2 * other)
