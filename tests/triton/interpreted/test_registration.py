"""What PyTorch asks of the ops: opcheck, compilation, autograd of every input."""

from __future__ import annotations

import pytest
import torch

from ansm_fast.ops import channelwise_kl, clamp_project, dual_mask_loss, pgd_step_
from ansm_fast.ops.cases import NATIVE_LAYOUTS as LAYOUTS
from ansm_fast.ops.triton import NAMESPACE
from tools.cases import calls


def smallest_calls(layout: str):
    """One call of every op."""
    found = {}
    for call in calls(torch.float32, layout):
        found.setdefault(call.op, call)
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(layout) -> None:
    for op, call in smallest_calls(layout).items():
        torch.library.opcheck(
            getattr(getattr(torch.ops, NAMESPACE), op).default, call.arguments,
            test_utils=("test_schema", "test_faketensor"),
        )  # fmt: skip


def losses(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    options = {"backend": "triton"}
    moved = clamp_project(a, b, 0.3, **options)
    return (
        channelwise_kl(a, b, temperature=2.0, **options)
        + dual_mask_loss(a, b, (a > 0.5).detach(), pos_weight=2.0, **options)
        + moved.square().sum()
    )


def test_compiles_without_a_break() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(losses, fullgraph=True, backend="aot_eager")
    results = []
    for run in (losses, compiled):
        torch.manual_seed(1)
        a, b = (torch.rand(2, 3, 4, 5, requires_grad=True) for _ in range(2))
        loss = run(a, b)
        results.append([loss.detach(), *torch.autograd.grad(loss * 2, (a, b))])
    torch.testing.assert_close(results[1], results[0])


def test_steps_in_place_compile() -> None:
    torch._dynamo.reset()
    adv, grad, image = (torch.rand(2, 3, 4, 5) for _ in range(3))
    copy = adv.clone()

    def attack(x: torch.Tensor) -> torch.Tensor:
        pgd_step_(x, grad, image, 0.1, 0.2, backend="triton")
        return x + 0

    found = torch.compile(attack, fullgraph=True, backend="aot_eager")(copy)
    torch.testing.assert_close(found, attack(adv))
    torch.testing.assert_close(copy, adv)
