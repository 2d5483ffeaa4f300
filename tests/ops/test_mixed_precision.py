"""What a training step under autocast meets: half features, GradScaler's factor after the forward.

A gradient that was rounded to float16 before the factor comes has lost what the factor would have
saved. Every step here is held against the same one in float64.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.losses import ChannelwiseKL, FeatureAlignment
from ansm_fast.ops import channelwise_kl
from ansm_fast.ops.cases import HALVES, laid_out
from ansm_fast.ops.channelwise_kl import REDUCTIONS

from .conftest import BACKENDS, error

SCALES = (1.0, 256.0, 65536.0)
SIZE = 48  # large enough that 1 / (B * C * N) is below what float16 holds


def eager(input: Tensor, target: Tensor, reduction: str, **_: object) -> Tensor:
    """KL(target || input) as its users write it in PyTorch."""
    log_q, p = input.flatten(2).log_softmax(2), target.flatten(2).softmax(2)
    rows = F.kl_div(log_q, p, reduction="none").sum(2)
    count = {"batchmean": len(rows), "channelmean": rows.numel(), "mean": input.numel()}
    return rows if reduction == "none" else rows.sum() / count.get(reduction, 1)


def fused(input: Tensor, target: Tensor, reduction: str, backend: str) -> Tensor:
    options = {"direction": "target_input", "reduction": reduction, "backend": backend}
    return channelwise_kl(input, target, **options)


def weight_gradient(
    loss, dtype: torch.dtype, reduction: str, scale: float, layout: str, backend: str = ""
) -> Tensor:
    """Of a student's convolution after one step; ``dtype`` is that of autocast."""
    torch.manual_seed(0)
    student = nn.Conv2d(3, 6, 3, padding=1)
    image, teacher = torch.rand(2, 3, SIZE, SIZE), 2 * torch.randn(2, 6, SIZE, SIZE)
    if layout == "channels_last":
        student = student.to(memory_format=torch.channels_last)
        image, teacher = laid_out(image, layout), laid_out(teacher, layout)
    half = dtype != torch.float64
    if not half:
        student, image = student.double(), image.double()
        teacher = teacher.half().double()
    with torch.autocast("cpu", dtype, enabled=half):
        features = student(image)
        target = teacher.half().to(features.dtype)
        value = loss(features, target, reduction=reduction, backend=backend)
    weights = torch.arange(1, value.numel() + 1).view_as(value) / value.numel()
    value = (value * weights).sum()
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=half and scale != 1)
    scaler.scale(value).backward()
    gradient = student.weight.grad
    assert gradient is not None
    return gradient.double() / (scale if half else 1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_step_is_as_exact_as_eagers(dtype, reduction, backend) -> None:
    for layout in ("contiguous", "channels_last"):
        true = weight_gradient(eager, torch.float64, reduction, 1.0, layout)
        for scale in SCALES:
            found = weight_gradient(fused, dtype, reduction, scale, layout, backend)
            peer = weight_gradient(eager, dtype, reduction, scale, layout)
            bound = 2 * error(peer, true) + torch.finfo(dtype).eps / 8
            assert error(found, true) <= bound, (layout, scale)


@pytest.mark.parametrize("reduction", ["mean", "channelmean", "none"])
@pytest.mark.parametrize("direction", ["input_target", "target_input"])
@pytest.mark.parametrize("alpha", [0.0, 1e-3])
def test_float16_gradients_keep_what_the_scale_saves(alpha, direction, reduction) -> None:
    """Both gradients, of one pair and of a list of them."""
    options = {"alpha": alpha, "direction": direction, "reduction": reduction}
    torch.manual_seed(0)
    pair = [torch.randn(2, 5, 40, 41).half() for _ in range(2)]
    scale = 65536.0

    def gradients(tensors: list[Tensor], listed: bool) -> list[Tensor]:
        a, b = (x.clone().requires_grad_() for x in tensors)
        with torch.autocast("cpu", torch.float16):
            given = ([a, b], [b, a]) if listed else (a, b)
            loss = channelwise_kl(*given, **options)
        loss = torch.stack(loss) if isinstance(loss, list) else loss
        (loss.sum() * scale).backward()
        assert a.grad is not None and b.grad is not None
        return [a.grad, b.grad]

    for listed in (False, True):
        found = gradients(pair, listed)
        true = gradients([x.double() for x in pair], listed)
        for one, other in zip(found, true, strict=True):
            assert one.dtype == torch.float16
            assert error(one, other) <= 2**-11 * 1.05


def test_a_loss_weight_comes_before_the_rounding() -> None:
    student = torch.randn(2, 4, 64, 64).half().requires_grad_()
    teacher = torch.randn(2, 4, 64, 64).half()
    true = student.detach().double().requires_grad_()
    with torch.autocast("cpu", torch.float16):
        (ChannelwiseKL(loss_weight=1e6)(student, teacher)).backward()
    ChannelwiseKL(loss_weight=1e6)(true, teacher.double()).backward()
    assert student.grad is not None and true.grad is not None
    assert error(student.grad, true.grad) <= 2**-11 * 1.05


def test_taps_of_feature_alignment() -> None:
    shapes = ((2, 4, 32, 32), (2, 8, 16, 16), (2, 16, 8, 8), (2, 4, 33, 31))
    taps = [torch.randn(shape).half() for shape in shapes]
    original = [tap + 0.1 * torch.randn_like(tap) for tap in taps]
    leaves = [tap.clone().requires_grad_() for tap in taps]
    true = [tap.double().requires_grad_() for tap in taps]
    with torch.autocast("cpu", torch.float16):
        (FeatureAlignment()(leaves, original) * 65536).backward()
    (FeatureAlignment()(true, [tap.double() for tap in original]) * 65536).backward()
    for one, other in zip(leaves, true, strict=True):
        assert one.grad is not None and other.grad is not None
        assert error(one.grad, other.grad) <= 2**-11 * 1.05


@pytest.mark.parametrize("backend", BACKENDS)
def test_sixty_steps_of_adam_reach_eagers_loss(backend) -> None:
    """With the defaults of GradScaler, which begins too high and comes down."""

    def trained(loss) -> float:
        torch.manual_seed(0)
        student = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Tanh(), nn.Conv2d(6, 4, 1))
        teacher = nn.Conv2d(3, 4, 3, padding=1)
        image = torch.rand(1, 3, 24, 24)
        target = 8 * teacher(image).detach()
        adam, scaler = torch.optim.Adam(student.parameters(), lr=0.02), torch.amp.GradScaler("cpu")
        for _ in range(60):
            adam.zero_grad()
            with torch.autocast("cpu", torch.float16):
                features = 8 * student(image)
                value = loss(features, target.half(), reduction="mean", backend=backend)
            scaler.scale(value).backward()
            scaler.step(adam)
            scaler.update()
        with torch.no_grad():
            return float(eager(8 * student(image), target, "mean"))

    assert trained(fused) <= 1.05 * trained(eager)


def test_what_is_changed_between_is_noticed() -> None:
    """The backward of float16 reads both arguments once more."""
    a, b = torch.randn(2, 3, 4, 4).half().requires_grad_(), torch.randn(2, 3, 4, 4).half()
    loss = channelwise_kl(a, b)
    b.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_graph_kept_and_second_derivative() -> None:
    a = torch.randn(2, 3, 8, 8).half().requires_grad_()
    loss = channelwise_kl(a, torch.randn(2, 3, 8, 8).half())
    first, second = (torch.autograd.grad(loss, a, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    (gradient,) = torch.autograd.grad(loss, a, create_graph=True)
    with pytest.raises(RuntimeError, match="channelwise_kl has no second derivative"):
        gradient.sum().backward()


def test_compiles() -> None:
    a, b = torch.randn(2, 3, 8, 8).half(), torch.randn(2, 3, 8, 8).half()

    def step(x: Tensor) -> Tensor:
        return channelwise_kl(x, b, reduction="mean") * 4096

    found, true = a.clone().requires_grad_(), a.clone().requires_grad_()
    torch.compile(step, fullgraph=True, backend="aot_eager")(found).backward()
    step(true).backward()
    assert found.grad is not None and true.grad is not None
    assert torch.equal(found.grad, true.grad)
