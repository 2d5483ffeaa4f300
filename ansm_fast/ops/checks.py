"""Argument checks that the ops share; each message names the argument, got and expected."""

from __future__ import annotations

import math
import numbers
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ansm_fast.ops.dtypes import FLOATING

_PLAIN = (Tensor, torch.nn.Parameter, torch.nn.Buffer)
# Asked for here, since the compiler of torch 2.11 cannot trace the question (2.13's can).
AUTOCAST_DEVICES = frozenset(
    kind for kind in ("cpu", "cuda", "xpu", "mps", "mtia") if torch.amp.is_autocast_available(kind)
)


def check_tensor(name: str, tensor: object) -> None:
    if not isinstance(tensor, Tensor):
        numbers_in_it = isinstance(tensor, (list, tuple)) or hasattr(tensor, "__array__")
        hint = f"; convert it with torch.as_tensor({name})" if numbers_in_it else ""
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}{hint}")
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got {tensor.layout}")


def is_readable(tensor: Tensor) -> bool:
    """Whether reading its values costs nothing: on the CPU, eagerly, not within a transform."""
    return (
        not torch.compiler.is_compiling()
        and type(tensor) in _PLAIN
        and tensor.is_cpu
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def has_tangent(tensor: Tensor) -> bool:
    """Tell whether ``tensor`` is a dual number of forward-mode differentiation."""
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return False
    return forward_ad.unpack_dual(tensor).tangent is not None


def check_constant(name: str, tensor: Tensor, of: str = "op") -> None:
    """Raise ValueError for a tensor by which somebody differentiates, in either mode."""
    if tensor.requires_grad or has_tangent(tensor):
        raise ValueError(f"{name} is a constant of this {of}; pass {name}.detach()")


def check_floating(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
        check_tensor(name, tensor)  # which says what is wrong
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
    """Tell whether autocast is on for the tensor's device."""
    kind = tensor.device.type
    return kind in AUTOCAST_DEVICES and torch.is_autocast_enabled(kind)


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
    """Same shape, device and dtype as ``other``, which has been checked; under autocast any
    floating dtype will do."""
    if (
        isinstance(tensor, Tensor)
        and tensor.dtype == other.dtype
        and tensor.shape == other.shape
        and tensor.device == other.device
        and tensor.layout == other.layout
    ):
        return
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
            f"move it with {name}.to({other_name.removeprefix('the ')}.device)"
        )


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_number(name: str, value: object) -> None:
    """A plain number: a tensor's value would be read by the host, and its gradient lost."""
    if isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a number, got a tensor of shape {tuple(value.shape)}; "
            f"pass {name}.item() if it holds one"
        )
    if not isinstance(value, (float, int, torch.SymFloat, torch.SymInt, numbers.Real)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")


def check_finite(name: str, value: Any, least: float = -math.inf) -> float:
    """A finite number >= ``least``; may be one of NumPy's."""
    if type(value) is not float:
        check_number(name, value)
    if not (-math.inf < value < math.inf and value >= least):
        bound = "" if least == -math.inf else f" >= {least:g} and"
        raise ValueError(f"{name} must be{bound} finite, got {value}")
    return value  # type: ignore[no-any-return]


def check_range(low: float, high: float) -> None:
    for name, value in (("min", low), ("max", high)):
        if type(value) is not float:
            check_number(name, value)
    if not low <= high:
        raise ValueError(f"min must be <= max, got min {low} and max {high}")


def check_writable(name: str, tensor: Tensor) -> None:
    """Whether an op may write in place: each element alone in memory, and no gradient lost."""
    if tensor.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            f"{name} requires grad, and autograd cannot follow what overwrites it; "
            f"pass {name}.detach()"
        )
    # Where a dimension of stride 0 has several elements they are one in memory.
    if not tensor.is_contiguous() and 0 in tensor.stride():
        shape, stride = tuple(tensor.shape), tensor.stride()
        if any(size > 1 and step == 0 for size, step in zip(shape, stride, strict=True)):
            raise ValueError(
                f"{name} is expanded, so that several of its elements share memory, and is to be "
                f"overwritten; pass {name}.clone()"
            )


def check_budget(name: str, value: float | Tensor, like: Tensor) -> None:
    """A number >= 0, or a tensor of shape () or (B,) on the device of ``like``."""
    if not isinstance(value, Tensor):
        if type(value) is not float:
            check_number(name, value)
        if not value >= 0:
            raise ValueError(f"{name} must be >= 0, got {value}")
        return
    check_constant(name, value)
    batch = like.shape[0]
    if value.dim() > 1 or (value.dim() == 1 and value.shape[0] != batch):
        raise ValueError(
            f"{name} must be a number or a tensor of shape ({batch},), got {tuple(value.shape)}"
        )
    check_device(name, value, "image", like)
    # Reading values of a device tensor would synchronize with the host.
    if is_readable(value) and bool((~(value >= 0)).any()):
        raise ValueError(f"{name} must be >= 0, got {value.tolist()}")
