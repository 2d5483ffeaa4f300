"""Argument checks that the ops share; each message names the argument, got and expected."""

from __future__ import annotations

import torch
from torch import Tensor

FLOATING = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# Asked for here, since the compiler of torch 2.11 cannot trace the question (2.13's can).
_AUTOCAST_DEVICES = frozenset(
    kind for kind in ("cpu", "cuda", "xpu", "mps", "mtia") if torch.amp.is_autocast_available(kind)
)


def check_tensor(name: str, tensor: object) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")


def check_floating(name: str, tensor: Tensor) -> None:
    check_tensor(name, tensor)
    if tensor.dtype not in FLOATING:
        raise TypeError(
            f"{name} must be float32, float16, bfloat16 or float64, got {tensor.dtype}; "
            f"convert it with {name}.float()"
        )


def check_batch(name: str, tensor: Tensor) -> None:
    if tensor.dim() < 2:
        raise ValueError(
            f"{name} must have a batch dimension and at least one more, got shape "
            f"{tuple(tensor.shape)}; add one with {name}.unsqueeze(0)"
        )


def autocasting(tensor: Tensor) -> bool:
    """Whether autocast is on for the tensor's device."""
    kind = tensor.device.type
    return kind in _AUTOCAST_DEVICES and torch.is_autocast_enabled(kind)


def check_shape(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Same shape and device."""
    check_tensor(name, tensor)
    if tensor.shape != other.shape:
        raise ValueError(
            f"{name} must have the shape of {other_name}, {tuple(other.shape)}, "
            f"got {tuple(tensor.shape)}"
        )
    check_device(name, tensor, other_name, other)


def check_same(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Same shape, device and dtype; under autocast any floating dtype will do."""
    check_shape(name, tensor, other_name, other)
    check_floating(name, tensor)
    if tensor.dtype != other.dtype and not autocasting(other):
        raise TypeError(
            f"{name} must have the dtype of {other_name}, {other.dtype}, got {tensor.dtype}; "
            f"convert it with {name}.to({other_name}.dtype)"
        )


def check_device(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.device != other.device:
        raise ValueError(
            f"{name} must be on the device of {other_name}, {other.device}, got {tensor.device}; "
            f"move it with {name}.to({other_name}.device)"
        )


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_range(low: float, high: float) -> None:
    if not low <= high:
        raise ValueError(f"min must be <= max, got min {low} and max {high}")


def check_budget(name: str, value: float | Tensor, like: Tensor) -> None:
    """A number >= 0, or a tensor of shape () or (B,) on the device of ``like``."""
    if not isinstance(value, Tensor):
        if not value >= 0:
            raise ValueError(f"{name} must be >= 0, got {value}")
        return
    batch = like.shape[0]
    if value.dim() > 1 or (value.dim() == 1 and value.shape[0] != batch):
        raise ValueError(
            f"{name} must be a number or a tensor of shape ({batch},), got {tuple(value.shape)}"
        )
    check_device(name, value, "image", like)
    # Reading values of a device tensor would synchronize with the host.
    readable = value.device.type == "cpu" and not torch.compiler.is_compiling()
    if readable and bool((~(value >= 0)).any()):
        raise ValueError(f"{name} must be >= 0, got {value.tolist()}")
