"""Kernels compiled for a device that is not there; ops traced on one."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import triton
from torch._functorch.aot_autograd import aot_export_module
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from ansm_fast.ops.triton import NAMESPACE
from tools.ops import OPS
from tools.triton.compile_report import Device, rows, wrong


def defined() -> set[tuple[str, str]]:
    """Folder and name of every kernel that is launched."""
    modules = [f"ansm_fast.kernels.{op}.triton_kernel" for op in OPS]
    modules.append("ansm_fast.kernels.common.triton_numbers")
    return {
        (module.split(".")[-2], name)
        for module in modules
        for name, value in vars(importlib.import_module(module)).items()
        if name.endswith("_kernel") and value.fn.__module__ == module
    }


def test_no_instance_spills() -> None:
    found = rows(["float32"], [90], brief=True)
    assert {(row["folder"], row["kernel"]) for row in found} == defined()
    assert not [row for row in found if wrong(row)]
    assert all(0 < row["registers"] <= 255 and row["warps"] <= 16 for row in found)


def op(name: str) -> Callable[..., Any]:
    return getattr(getattr(torch.ops, NAMESPACE), name).default


def step(adv: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    moved = adv.clone()
    op("pgd_step_")(moved, grad, adv, 0.1, None, 0.2, None, False, 0.0, 1.0)
    return moved


CALLS: dict[str, tuple[Callable[..., Any], tuple[int, ...], int]] = {
    "rows": (
        lambda a, b: op("channelwise_kl")(a, b, 1.0, 0.0, True, 4, True, False), (2, 8, 32, 32), 2,
    ),
    "split rows": (
        lambda a, b: op("channelwise_kl")(a, b, 1.0, 0.1, True, 0, True, True), (2, 8, 128, 96), 5,
    ),
    "dual mask": (
        lambda a, b: op("dual_mask")(a, b, b, None, None, None, None, [1.0] * 6, None, 2),
        (2, 1, 32, 32), 4,
    ),
    "project l2": (
        lambda a, b: op("clamp_project")(a, b, 0.1, None, True, 0.0, 1.0), (2, 3, 32, 32), 3,
    ),
    "step": (step, (2, 3, 32, 32), 1),
    "unpack": (lambda a, b: op("image_unpack")(a, b, 0.1, None, True, True), (2, 3, 32, 32), 1),
}  # fmt: skip


class Called(torch.nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results = self.function(*arguments)
        return tuple(results) if isinstance(results, (list, tuple)) else (results,)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dynamic", [False, True])
def test_tracers_see_the_kernels(name, dynamic) -> None:
    """Compilers get the launches themselves, and know which tensors they write."""
    triton.runtime.driver.set_active(Device())
    function, shape, launches = CALLS[name]
    with FakeTensorMode(shape_env=ShapeEnv() if dynamic else None, static_shapes=not dynamic) as m:
        meta = m.from_tensor(torch.empty(shape, device="meta"), static_shapes=not dynamic)
        arguments = [torch.empty_strided(meta.size(), meta.stride(), device="cuda") for _ in "ab"]
        module, _ = aot_export_module(Called(function), arguments, trace_joint=False)
    found = [n for n in module.graph.nodes if "triton_kernel_wrapper" in str(n.target)]
    assert len(found) == launches
    inputs = [n for n in module.graph.nodes if n.op == "placeholder"]
    for node in found:
        written = {node.kwargs["kwargs"][key] for key in node.kwargs["tensors_to_clone"]}
        assert not written & set(inputs)


def test_schemas_name_the_mutated_arguments() -> None:
    mutable = {
        "channelwise_kl_scale_": ["gradient"],
        "pgd_step_": ["adv"],
        "momentum_step_": ["adv", "momentum"],
        "clamp_project": [],
    }
    for name, expected in mutable.items():
        schema = op(name)._schema
        written = [a.name for a in schema.arguments if a.alias_info and a.alias_info.is_write]
        assert written == expected
