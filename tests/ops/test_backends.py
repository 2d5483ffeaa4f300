from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ansm_fast
from ansm_fast.ops import backends, channelwise_kl
from ansm_fast.ops.backends import BACKENDS, OPS, BackendError


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_an_answer_for_every_backend(op) -> None:
    for backend in BACKENDS:
        reason = backends.why_not(op, backend)
        assert reason is None or (len(reason) > 10 and "\n" not in reason)
    assert backends.why_not(op, "reference") is None


def test_a_forced_backend_never_falls_back() -> None:
    x = torch.rand(1, 2, 3, 3)
    with pytest.raises(BackendError, match="backend 'cuda' cannot run channelwise_kl: "):
        channelwise_kl(x, x, backend="cuda")
    with pytest.raises(BackendError, match="needs tensors on 'cpu', got one on 'meta'"):
        channelwise_kl(x.to("meta"), x.to("meta"), backend="cpu")


@pytest.mark.parametrize("arguments", [("no_such_op", "cpu"), ("channelwise_kl", "fpga")])
def test_unknown_names(arguments) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        backends.why_not(*arguments)


def python(code: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code on the very package that is tested here, wherever the tests were started."""
    package = Path(ansm_fast.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(package)} | variables
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reference", "triton"])
def test_environment_variable(name, tmp_path) -> None:
    code = (
        "import torch; from ansm_fast.ops import channelwise_kl; x = torch.rand(1, 2, 3, 3);"
        "print(float(channelwise_kl(x, x)))"
    )
    done = python(code, tmp_path, ANSM_FAST_BACKEND=name)
    if name == "reference":
        assert done.stdout.strip() == "0.0", done.stderr
    else:
        assert "backend 'triton' cannot run channelwise_kl" in done.stderr
        assert done.returncode != 0


@pytest.mark.slow
def test_the_interpreter_is_never_chosen_unasked(tmp_path) -> None:
    pytest.importorskip("triton")
    code = (
        "import torch; from ansm_fast.ops import backends, channelwise_kl;"
        "x = torch.rand(1, 2, 3, 3); print(backends.choose('channelwise_kl', (x,)));"
        "print(float(channelwise_kl(x, x, backend='triton')))"
    )
    done = python(code, tmp_path, TRITON_INTERPRET="1")
    assert done.stdout.split() == ["cpu", "0.0"], done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("level", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_gives_the_same_results(level, tmp_path) -> None:
    """Within rounding; levels that this processor lacks fall back to the best there is."""
    code = (
        "import torch; from ansm_fast.ops import channelwise_kl, bce_dice_loss;"
        "torch.manual_seed(0); a, b = (torch.randn(2, 20, 9, 11).double() for _ in range(2));"
        "c, d = a.float().requires_grad_(), b.float();"
        "e = channelwise_kl(a, b, backend='reference');"
        "f = channelwise_kl(c, d, backend='cpu') + 0 * bce_dice_loss(c, d > 0); f.backward();"
        "assert abs(f - e) < 1e-6 * abs(e), (f, e); assert c.grad.isfinite().all(); print('same')"
    )
    done = python(code, tmp_path, ANSM_FAST_CPU_CAPABILITY=level)
    assert done.stdout.strip() == "same", done.stderr
