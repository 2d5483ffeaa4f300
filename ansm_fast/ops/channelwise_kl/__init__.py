"""Channel-wise KL divergence between feature maps."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor

from ansm_fast.ops import backends
from ansm_fast.ops.channelwise_kl import reference
from ansm_fast.ops.channelwise_kl.options import DIRECTIONS, REDUCTIONS
from ansm_fast.ops.checks import (
    autocasting,
    check_choice,
    check_finite,
    check_floating,
    check_same,
)


@overload
def channelwise_kl(
    input: Tensor, target: Tensor, *, temperature: float = ..., alpha: float = ...,
    direction: str = ..., reduction: str = ..., backend: str | None = ...,
) -> Tensor: ...  # fmt: skip
@overload
def channelwise_kl(
    input: Sequence[Tensor], target: Sequence[Tensor], *, temperature: float = ...,
    alpha: float = ..., direction: str = ..., reduction: str = ..., backend: str | None = ...,
) -> Tensor | list[Tensor]: ...  # fmt: skip
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
    """Compute the KL divergence between the softmaxes over space of each channel of two maps.

    With ``p = softmax(input / temperature)`` and ``q = softmax(target / temperature)``, each over
    the N pixels of one channel of one sample::

        KL(p || q) = sum_k p_k * log((p_k + alpha) / (q_k + alpha))     direction "input_target"
        KL(q || p), the same with p and q exchanged                     direction "target_input"

    "input_target" with ``reduction="mean"`` is the FFA loss of arXiv 2506.12871 averaged over the
    batch; "target_input" with "channelmean" and ``temperature=4``, times ``temperature ** 2``, is
    channel-wise distillation (CWD, arXiv 2011.13256).

    Args:
        input: (B, C, *space), float32, float16, bfloat16 or float64; or a list of such tensors,
            for several layers at once.
        target: as ``input``, same shapes and dtypes (any floating dtype under autocast).
        temperature: > 0, finite.
        alpha: >= 0, finite. Above 0 it bounds the logarithm where a probability vanishes.
        direction: "input_target" or "target_input".
        reduction: what the sum over all rows (B samples of C channels) is divided by: "mean" by
            B * C * N, "channelmean" by B * C, "batchmean" by B, "sum" by 1; "none" gives (B, C).
        backend: "cpu", "reference", ...; by default the first that can run.

    Returns:
        A scalar (or (B, C)) in the dtype of ``input``; float32 under autocast. Of a list of
        pairs, the mean over the pairs, or a list of (B, C) for reduction "none".

    Contiguous and channels-last maps are read as they lie in memory; any other strided tensor, or
    a target in another order than the input, is copied once. Sums are float32 (float64 for
    float64). Differentiable once, in both arguments; batched gradients are made one after the
    other, and forward-mode differentiation takes the reference.

    A gradient of float16 is rounded once, after ``grad_output`` with what GradScaler and weights of
    losses put into it: the backward makes it, from both arguments, which must then be as they were.
    Any other is made in the forward.

    Raises:
        TypeError: not a floating tensor, dtypes differ, or temperature or alpha is no number.
        ValueError: shapes or devices differ, no dimension of space, temperature <= 0,
            alpha < 0, one of them infinite, an unknown direction or reduction.
        BackendError: the forced backend cannot run.
    """
    if not isinstance(input, Tensor):
        return of_pairs(
            input, target, temperature=temperature, alpha=alpha, direction=direction,
            reduction=reduction, backend=backend,
        )  # fmt: skip
    if not isinstance(target, Tensor):
        raise TypeError(f"target must be a tensor as input is, got {type(target).__name__}")
    _check(input, target, temperature, alpha, direction, reduction)
    chosen = backends.choose("channelwise_kl", (input, target), backend)
    if chosen == "reference":
        loss = reference.channelwise_kl(
            input, target, temperature=temperature, alpha=alpha, direction=direction,
            reduction=reduction,
        )  # fmt: skip
    else:
        loss = backends.native(chosen)["channelwise_kl"](
            input, target, float(temperature), float(alpha), direction, reduction
        )
    return loss if loss.dtype == input.dtype else loss.to(_dtype_of_loss(input))


def _check(
    input: Tensor, target: Tensor, temperature: float, alpha: float, direction: str, reduction: str
) -> None:
    check_floating("input", input)
    if input.dim() < 3:
        raise ValueError(
            f"input must have shape (B, C, *space) with at least one dimension of space, "
            f"got {tuple(input.shape)}"
        )
    check_same("target", target, "input", input)
    check_choice("direction", direction, DIRECTIONS)
    check_choice("reduction", reduction, REDUCTIONS)
    if not check_finite("temperature", temperature) > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    check_finite("alpha", alpha, 0)


def _dtype_of_loss(input: Tensor) -> torch.dtype:
    in_float32 = autocasting(input) and input.dtype != torch.float64
    return torch.float32 if in_float32 else input.dtype


def of_pairs(
    input: Sequence[Tensor],
    target: Tensor | Sequence[Tensor],
    *,
    temperature: float,
    alpha: float,
    direction: str,
    reduction: str,
    backend: str | None = None,
    weights: Sequence[float] | None = None,
) -> Tensor | list[Tensor]:
    """Apply ``channelwise_kl`` to lists; weigh each loss before the mean of them is taken."""
    for name, maps in (("input", input), ("target", target)):
        if not isinstance(maps, (Tensor, list, tuple)):
            raise TypeError(
                f"{name} must be a tensor or a list of tensors, got {type(maps).__name__}"
            )
    if isinstance(target, Tensor) or len(input) != len(target) or not len(input):
        given = "a tensor" if isinstance(target, Tensor) else f"{len(target)} tensors"
        raise ValueError(
            f"input and target must be lists of the same length, at least 1, "
            f"got {len(input)} tensors and {given}"
        )
    for a, b in zip(input, target, strict=True):
        _check(a, b, temperature, alpha, direction, reduction)
    chosen = {
        backends.choose("channelwise_kl", pair, backend) for pair in zip(input, target, strict=True)
    }
    layers = None
    if len(chosen) == 1 and chosen != {"reference"}:
        layers = backends.native(*chosen)["channelwise_kl_layers"]
    if layers is None or not layers.takes(input, target):
        losses: list[Tensor] = [
            channelwise_kl(
                a, b, temperature=temperature, alpha=alpha, direction=direction,
                reduction=reduction, backend=backend,
            )
            for a, b in zip(input, target, strict=True)
        ]  # fmt: skip
        if reduction == "none":
            return losses
        losses = [loss.to(losses[0].device) for loss in losses]
        return torch.stack(_weighted(losses, weights)).mean()
    losses = layers(input, target, float(temperature), float(alpha), direction, reduction)
    dtypes = [_dtype_of_loss(a) for a in input]
    if reduction == "none":
        return [loss.to(dtype) for loss, dtype in zip(losses, dtypes, strict=True)]
    total = torch.stack(_weighted(losses, weights)).sum()
    return total.to(functools.reduce(torch.promote_types, dtypes))


def _weighted(losses: list[Tensor], weights: Sequence[float] | None) -> list[Tensor]:
    if weights is None:
        return losses
    return [loss * weight for loss, weight in zip(losses, weights, strict=True)]
