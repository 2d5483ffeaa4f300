"""Channel-wise KL under fp16 AMP beside the distillation loss of mmrazor.

Its file is loaded alone: the package around it wants mmengine, mmcv and their registries.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ansm_fast.losses import ChannelwiseKL


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> type[nn.Module]:
    """mmrazor's ChannelWiseDivergence."""
    package = importlib.util.find_spec("mmrazor")
    if package is None or package.origin is None:
        pytest.skip("mmrazor is not installed; pip install --no-deps mmrazor")
    registry = types.ModuleType("mmrazor.registry")
    registry.MODELS = types.SimpleNamespace(register_module=lambda: lambda made: made)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mmrazor", types.ModuleType("mmrazor"))
    monkeypatch.setitem(sys.modules, "mmrazor.registry", registry)
    path = Path(package.origin).parent / "models" / "losses" / "cwd.py"
    spec = importlib.util.spec_from_file_location("mmrazor_cwd", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ChannelWiseDivergence


def ours(tau: float) -> ChannelwiseKL:
    return ChannelwiseKL(
        temperature=tau, direction="target_input", reduction="channelmean", loss_weight=tau**2
    )


def step(loss: nn.Module, dtype: torch.dtype, scale: float) -> tuple[float, Tensor]:
    """Loss and weight gradient of a student's convolution."""
    torch.manual_seed(0)
    student = nn.Conv2d(3, 19, 3, padding=1)
    image, teacher = torch.rand(2, 3, 64, 64), 3 * torch.randn(2, 19, 64, 64).half().float()
    half = dtype != torch.float64
    if not half:
        student, image, teacher = student.double(), image.double(), teacher.double()
    with torch.autocast("cpu", dtype, enabled=half):
        features = student(image)
        value = loss(features, teacher.to(features.dtype))
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=half)
    scaler.scale(value).backward()
    assert student.weight.grad is not None
    return float(value.detach()), student.weight.grad.double() / (scale if half else 1)


@pytest.mark.parametrize("scale", [1.0, 256.0, 65536.0])
@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_a_step_of_distillation(peer, tau, scale) -> None:
    value, true = step(peer(tau=tau), torch.float64, 1.0)
    assert step(ours(tau), torch.float64, 1.0)[0] == pytest.approx(value, rel=1e-12)
    size = true.abs().max()
    theirs = (step(peer(tau=tau), torch.float16, scale)[1] - true).abs().max() / size
    found, gradient = step(ours(tau), torch.float16, scale)
    assert found == pytest.approx(value, rel=2e-3)
    # With tensors in half precision between, mmrazor's overflows at the largest scale.
    bound = 2 * theirs + 2**-13 if theirs.isfinite() else 2**-9
    assert (gradient - true).abs().max() / size <= bound
