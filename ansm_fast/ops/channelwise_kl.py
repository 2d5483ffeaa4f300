"""Channel-wise KL divergence between feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ansm_fast.ops import backends, reference
from ansm_fast.ops.checks import check_choice, check_floating, check_same

DIRECTIONS = ("input_target", "target_input")
REDUCTIONS = ("mean", "batchmean", "channelmean", "sum", "none")


def channelwise_kl(
    input: Tensor | Sequence[Tensor],
    target: Tensor | Sequence[Tensor],
    *,
    temperature: float = 1.0,
    alpha: float = 0.0,
    direction: str = "input_target",
    reduction: str = "mean",
    backend: str | None = None,
) -> Tensor | list[Tensor]:
    """KL divergence between softmaxes over space, channel by channel."""
    if not isinstance(input, Tensor):
        pairs = zip(input, target, strict=True)
        losses = [
            channelwise_kl(
                a, b, temperature=temperature, alpha=alpha, direction=direction,
                reduction=reduction, backend=backend,
            )
            for a, b in pairs
        ]
        return losses if reduction == "none" else torch.stack(losses).mean()  # type: ignore[arg-type]
    assert isinstance(target, Tensor)
    check_floating("input", input)
    check_same("target", target, "input", input)
    check_choice("direction", direction, DIRECTIONS)
    check_choice("reduction", reduction, REDUCTIONS)
    backends.choose("channelwise_kl", (input, target), backend)
    return reference.channelwise_kl(
        input, target, temperature=temperature, alpha=alpha, direction=direction,
        reduction=reduction,
    )
