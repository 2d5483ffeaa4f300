"""Argument checks that the ops share; each message names the argument, got and expected."""

from __future__ import annotations

import torch
from torch import Tensor

FLOATING = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def check_floating(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if tensor.dtype not in FLOATING:
        raise TypeError(
            f"{name} must be float32, float16, bfloat16 or float64, got {tensor.dtype}; "
            f"convert it with {name}.float()"
        )


def check_same(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Same shape, dtype and device."""
    if tensor.shape != other.shape:
        raise ValueError(
            f"{name} must have the shape of {other_name}, {tuple(other.shape)}, "
            f"got {tuple(tensor.shape)}"
        )
    if tensor.dtype != other.dtype:
        raise TypeError(
            f"{name} must have the dtype of {other_name}, {other.dtype}, got {tensor.dtype}"
        )
    check_device(name, tensor, other_name, other)


def check_device(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.device != other.device:
        raise ValueError(
            f"{name} must be on the device of {other_name}, {other.device}, got {tensor.device}; "
            f"move it with {name}.to({other_name}.device)"
        )


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_budget(name: str, value: float | Tensor, batch: int) -> None:
    """A float >= 0, or a tensor of shape () or (batch,), whose values the caller vouches for."""
    if isinstance(value, Tensor):
        if value.dim() > 1 or (value.dim() == 1 and value.shape[0] != batch):
            raise ValueError(
                f"{name} must be a float or a tensor of shape ({batch},), got {tuple(value.shape)}"
            )
        # Reading values of a device tensor would synchronize with the host.
        if value.device.type == "cpu" and not torch.compiler.is_compiling():
            if bool((~(value >= 0)).any()):
                raise ValueError(f"{name} must be >= 0, got {value.tolist()}")
    elif not value >= 0:
        raise ValueError(f"{name} must be >= 0, got {value}")
