"""Mask logits from what a model gives instead: probabilities, or two classes."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from ansm_fast.errors import LocalizerError
from ansm_fast.ops.value_range import value_range

LogitsFrom = Literal["logits", "probabilities", "two_class", "two_class_probabilities"]
LOGITS_FROM: tuple[str, ...] = get_args(LogitsFrom)

# A logit of -69, far below what any loss tells from less; its reciprocal is a finite gradient.
_LEAST = 1e-30
# Of a sum of two probabilities in half precision.
_NEAR_ONE = 2e-2


def _between(values: Tensor, low: float, high: float) -> Tensor:
    """Clamped, with the gradient of the identity: what is clamped is not lost to an attack."""
    return values + (values.clamp(low, high) - values).detach()


def logits_of_probabilities(probabilities: Tensor) -> Tensor:
    """log(p / (1 - p)), finite for every p in [0, 1], with a finite gradient.

    p is clamped to [1e-30, 1 - u/2], u the dtype's distance from 1 to the next number, and the
    gradient there is that of the nearest p inside, 1 / (p (1 - p)). So it undoes a sigmoid's and
    survives as long as the sigmoid's own does: in float32 down to logits of -69 and up to 16.6.
    Where a sigmoid gave exactly 1 its own gradient is 0, and nothing can bring it back: logits are
    better where a model can give them. Half precision is computed in float32.
    """
    top = 1 - torch.finfo(probabilities.dtype).eps / 2
    values = probabilities.float() if probabilities.dtype.itemsize < 4 else probabilities
    inside = _between(values, _LEAST, top)
    return inside.log() - torch.log1p(-inside)


def logits_of_two_classes(logits: Tensor) -> Tensor:
    """Return the second channel of (B, 2, H, W) minus the first: the logit of its softmax."""
    return logits[:, 1:] - logits[:, :1]


def logits_of_two_probabilities(probabilities: Tensor) -> Tensor:
    """log p1 - log p0 of (B, 2, H, W), each clamped to at least 1e-30.

    Finite with a finite gradient, and more exact than the logit of p1 alone: close to 1 a number
    keeps few digits of its distance from it, and p0 has them.
    """
    values = probabilities.float() if probabilities.dtype.itemsize < 4 else probabilities
    inside = _between(values, _LEAST, 1.0).log()
    return inside[:, 1:] - inside[:, :1]


def as_logits(output: Tensor, kind: LogitsFrom | None) -> Tensor:
    """Return what ``kind`` names as logits (B, 1, H, W); ``None`` and "logits": as it is.

    Raises:
        LocalizerError: it has no two channels where two are named.
    """
    if kind is None or kind == "logits":
        return output
    if kind == "probabilities":
        if output.dim() == 4 and output.shape[1] == 2:
            raise LocalizerError(
                "logits_from='probabilities' needs an output (B, 1, H, W), got "
                f"{tuple(output.shape)}; of two classes write logits_from='two_class_probabilities'"
            )
        return logits_of_probabilities(output)
    if output.dim() != 4 or output.shape[1] != 2:
        raise LocalizerError(
            f"logits_from={kind!r} needs an output (B, 2, H, W), channel 1 the forged one, got "
            f"{tuple(output.shape)}; select the channels with postprocess="
        )
    if kind == "two_class":
        return logits_of_two_classes(output)
    return logits_of_two_probabilities(output)


def check_kind(output: Tensor, kind: LogitsFrom | None) -> None:
    """Raise LocalizerError where a model's output is not what ``kind`` says; one or two reads."""
    if kind is None or kind == "logits":
        return
    found = value_range(output)
    if found is None:
        return
    low, high = found
    slack = 4 * torch.finfo(output.dtype).eps
    in_unit = -slack <= low and high <= 1 + slack
    two = kind.startswith("two") and in_unit and output.dim() > 1
    sums = value_range(output.detach().sum(1)) if two else None
    add_up = sums is not None and abs(sums[0] - 1) < _NEAR_ONE and abs(sums[1] - 1) < _NEAR_ONE
    if kind == "two_class":
        if add_up:
            raise LocalizerError(
                "logits_from='two_class' needs logits, got two channels in [0, 1] that add up to "
                "1: these are probabilities, write logits_from='two_class_probabilities'"
            )
    elif not in_unit:
        other = "two_class" if kind.startswith("two") else "logits"
        raise LocalizerError(
            f"logits_from={kind!r} needs values in [0, 1], got {low:.6g} to {high:.6g}; if the "
            f"model gives logits, write logits_from={other!r}"
        )
    elif sums is not None and not add_up:
        raise LocalizerError(
            "logits_from='two_class_probabilities' needs two channels that add up to 1, got sums "
            f"from {sums[0]:.6g} to {sums[1]:.6g}; of independent probabilities pick the forged "
            "class with postprocess=lambda out: out[:, 1:] and write logits_from='probabilities'"
        )
