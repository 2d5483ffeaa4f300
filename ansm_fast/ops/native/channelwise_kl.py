"""channelwise_kl on the compiled library.

The gradients are made in the forward, while the rows are in the cache; the backward multiplies
them by grad_output, in place where nobody will ask for them again, and touches nothing when
grad_output is 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.native.autograd import first_order_only, raising_backward
from ansm_fast.ops.native.layout import empty_in_order

REDUCTIONS = ("none", "sum", "batchmean", "channelmean", "mean")
_OP, _BACKWARD, _SCALE = (
    f"ansm_fast::channelwise_kl{suffix}" for suffix in ("", "_backward", "_scale_")
)


def call(
    input: Tensor, target: Tensor, temperature: float, alpha: float, direction: str, reduction: str
) -> Tensor:
    """The loss in the accumulation dtype."""
    grad = torch.is_grad_enabled()
    loss: Tensor = torch.ops.ansm_fast.channelwise_kl.default(
        input,
        target,
        temperature,
        alpha,
        direction == "input_target",
        REDUCTIONS.index(reduction),
        grad and input.requires_grad,
        grad and target.requires_grad,
    )[0]
    return loss


@torch.library.register_fake(_OP)
def _fake(
    input: Tensor,
    target: Tensor,
    temperature: float,
    alpha: float,
    input_first: bool,
    reduction: int,
    grad_input: bool,
    grad_target: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.float64 in (input.dtype, target.dtype)
    loss = input.new_empty(
        input.shape[:2] if reduction == 0 else (), dtype=torch.float64 if wide else torch.float32
    )
    return (
        loss,
        empty_in_order(input, input) if grad_input else input.new_empty(0),
        empty_in_order(target, input) if grad_target else target.new_empty(0),
    )


@torch.library.register_fake(_BACKWARD)
def _fake_backward(grad_output: Tensor, gradient: Tensor) -> Tensor:
    return empty_in_order(gradient, gradient)


@torch.library.register_fake(_SCALE)
def _fake_scale(gradient: Tensor, grad_output: Tensor) -> None:
    return None


def _setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output[1:])


def _scaled(gradient: Tensor, grad_output: Tensor) -> Tensor:
    # The saved buffer may be handed out only where the graph dies with this backward, and only by
    # eager PyTorch: a compiler would see a mutation of what it holds.
    if type(gradient) is Tensor and not torch._C._autograd._get_current_graph_task_keep_graph():
        torch.ops.ansm_fast.channelwise_kl_scale_.default(gradient, grad_output)
        return gradient
    scaled = torch.ops.ansm_fast.channelwise_kl_backward.default(grad_output, gradient)
    return first_order_only(scaled, "channelwise_kl")


def _backward(ctx: Any, grad_loss: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    wanted = [
        _scaled(gradient, grad_loss) if needed and grad_loss is not None else None
        for gradient, needed in zip(ctx.saved_tensors, ctx.needs_input_grad[:2], strict=True)
    ]
    return (*wanted, *(None,) * 6)


torch.library.register_autograd(_OP, _backward, setup_context=_setup_context)
torch.library.register_autograd(_BACKWARD, raising_backward("channelwise_kl"))
