"""What the Triton operators of all ops share: definition, launches, layouts, checks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from ansm_fast.kernels.common.triton_numbers import INTERPRETED
from ansm_fast.ops import discovery
from ansm_fast.ops.dtypes import FLOATING
from ansm_fast.ops.layout import empty_in_order, is_channels_last
from ansm_fast.ops.triton import NAMESPACE


def define(name: str) -> Callable[[Any], Any]:
    """Registers a function as the operator of this name, whose schema it must have: Triton's
    operators take theirs from the annotations."""
    schema = discovery.schemas()[name]
    mutates = re.findall(r"!\) (\w+)", schema)

    def register(function: Any) -> Any:
        qualified = f"{NAMESPACE}::{name}"
        annotated = torch.library.infer_schema(function, mutates_args=mutates)
        if annotated.replace("SymInt", "int") != schema:
            raise TypeError(f"{qualified} must have the schema {schema}, its is {annotated}")
        if not INTERPRETED.value:
            return torch.library.triton_op(qualified, function, mutates_args=mutates)
        # An interpreted kernel cannot be traced: the op is opaque to compilers.
        op = torch.library.custom_op(qualified, function, mutates_args=mutates)
        op.register_fake(function)
        return op

    return register


class _Launcher:
    """kernel[grid](...) on the tensors' device."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*arguments: Any, **options: Any) -> None:
            if grid[0] == 0:
                return
            kernel = torch.library.wrap_triton(self.kernel)
            if INTERPRETED.value:
                if not any(isinstance(argument, FakeTensor) for argument in arguments):
                    kernel[grid](*arguments, **options)
                return
            device = arguments[0].device
            if kernel is not self.kernel or device.index in (None, torch.cuda.current_device()):
                kernel[grid](*arguments, **options)
            else:  # Triton launches on the current device
                with torch.cuda.device(device):
                    kernel[grid](*arguments, **options)

        return launch


def wrap_triton(kernel: Any) -> _Launcher:
    """``torch.library.wrap_triton`` (whose name tracers look for) with what eager calls need."""
    return _Launcher(kernel)


def check(condition: bool, message: str) -> None:
    if not condition:
        raise RuntimeError(f"ansm_fast: {message}")


def check_floating(tensor: Tensor, name: str) -> None:
    check(tensor.dtype in FLOATING, f"{name} must be float32, float16, bfloat16 or float64")


def check_shape(tensor: Tensor, other: Tensor, name: str) -> None:
    check(tensor.shape == other.shape, f"{name} differs in shape")


def is_double(*tensors: Tensor | None) -> bool:
    return any(tensor is not None and tensor.dtype == torch.float64 for tensor in tensors)


def lies_channels_last(tensor: Tensor) -> bool:
    """Whether results lie channels-last; a tensor with gaps is copied in the planar order."""
    return not tensor.is_contiguous() and is_channels_last(tensor)


def in_order(tensor: Tensor, order: Tensor) -> Tensor:
    """The tensor itself where it lies in the order of ``order`` already, else a copy."""
    if not lies_channels_last(order):
        return tensor.contiguous()
    return tensor if is_channels_last(tensor) else empty_in_order(tensor, order).copy_(tensor)


def nothing(like: Tensor) -> Tensor:
    return like.new_empty(0)


def elements_of_sample(tensor: Tensor) -> int:
    elements = 1
    for size in tensor.shape[1:]:
        elements *= size
    return elements


def sample_kind(values: Tensor | None, samples: int, name: str) -> int:
    """Which number ``per_sample`` of the kernels takes."""
    if values is None:
        return 0
    right = values.dtype == torch.float64 and values.is_contiguous()
    check(
        right and (values.numel() == 1 or values.numel() == samples),
        f"{name} must hold one float64 for each sample",
    )
    return 1 if values.numel() == 1 else 2


def smallest(sizes: Sequence[int], needed: int) -> int:
    """The smallest of ascending sizes that is enough, or the largest."""
    for size in sizes[:-1]:
        if needed <= size:
            return size
    return sizes[-1]


def block_of(tensor: Tensor, bytes: int = 4096) -> int:
    """Elements of a program that passes over memory: 2 accesses of 16 bytes a thread of 4 warps."""
    return bytes // tensor.element_size()


cdiv = triton.cdiv
