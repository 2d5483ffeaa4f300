"""Mixed dtypes meet CUDA kernels that take one: what the public ops do about it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CODE = """
import torch
from ansm_fast.ops import channelwise_kl, clamp_project, momentum_step_
from tools.gpu.targets import register_simt
register_simt()
torch.manual_seed(0)

def results(backend):
    torch.manual_seed(1)
    maps = [torch.randn(2, 3, 4, 5).to(d) for d in (torch.float32, torch.float64, torch.bfloat16)]
    inputs = [m.clone().requires_grad_() for m in maps]
    targets = [torch.randn_like(m) for m in maps]
    loss = channelwise_kl(inputs, targets, backend=backend)
    found = [loss.detach(), *torch.autograd.grad(loss, inputs)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, single = maps[2].clone().requires_grad_(), maps[0].clone().requires_grad_()
        mixed = channelwise_kl([half, single], [single.detach(), half.detach()], backend=backend)
        project = clamp_project(single, half, 0.25, backend=backend)
    found += [mixed.detach(), *torch.autograd.grad(mixed + project.sum(), (half, single))]
    adv, momentum = maps[0].clone(), torch.zeros_like(maps[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        momentum_step_(adv, momentum, maps[2], maps[0], 0.1, 0.2, backend=backend)
    return [*found, adv, momentum]

for one, other in zip(results("simt"), results("cpu"), strict=True):
    torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-4)
print("same")
"""


@pytest.mark.slow
def test_mixed_dtypes_give_what_the_cpu_gives() -> None:
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "same", done.stderr[-3000:]
