"""From a case to its tensors, in every layout on any device, and to its results by name."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.cases import Case, Tensors, laid_out
from tools.cases import functions

SMALL = ("eps", "alpha", "pos_weight")  # budgets and weights


def make(case: Case, seed: int = 0) -> Tensors:
    """The case's tensors, contiguous on the CPU; the same ones for the same case and seed."""
    generator = torch.Generator().manual_seed(zlib.crc32(case.name.encode()) + seed)
    return functions()[case.op].draw(case, generator)


def placed(tensors: Tensors, layout: str, device: torch.device) -> Tensors:
    """Copies of the tensors on a device; budgets and weights stay contiguous."""
    copies = {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}
    return {k: x if k in SMALL else laid_out(x, layout) for k, x in copies.items()}


def in_double(tensors: Tensors) -> Tensors:
    return {k: t.double() if t.is_floating_point() else t.clone() for k, t in tensors.items()}


def options(case: Case, tensors: Tensors) -> dict[str, Any]:
    """The arguments that are no tensors; a word stands for one."""
    return {name: value for name, value in case.options.items() if name not in tensors}


def forward(case: Case, tensors: Tensors, backend: str) -> Tensors:
    """What the call returns or overwrites. Without a copy, so that it can be captured."""
    return functions()[case.op].forward(**options(case, tensors), **tensors, backend=backend)


def grad_output(result: Tensor, backward: str) -> Tensor:
    """What the gradient of a result is weighted by: exact in every dtype."""
    if backward == "ones":
        return torch.ones_like(result)
    weights = torch.arange(1, result.numel() + 1, device=result.device) % 4 + 1
    if backward == "scaled":
        weights = weights * 2048
    return (weights / 2).to(result.dtype).reshape(result.shape)


def leaves(case: Case, tensors: Tensors) -> Tensors:
    """The tensors, those that a gradient is taken in as leaves on the same memory."""
    wanted = functions()[case.op].differentiable
    return {k: t.detach().requires_grad_() if k in wanted else t for k, t in tensors.items()}


def gradients(case: Case, tensors: Tensors, outputs: Tensors) -> Tensors:
    """The gradients of what ``forward`` returned in its differentiable tensors."""
    wanted = functions()[case.op].differentiable
    results = [result for result in outputs.values() if result.requires_grad]
    if not wanted or not results:
        return {}
    weights = [grad_output(result, case.backward) for result in results]
    inputs = [tensors[name] for name in wanted]
    twice = case.backward == "twice"
    found = torch.autograd.grad(results, inputs, weights, retain_graph=twice)
    made = {f"gradient of {name}": value for name, value in zip(wanted, found, strict=True)}
    if twice:
        again = torch.autograd.grad(results, inputs, weights)
        made |= {f"gradient of {k}, again": v for k, v in zip(wanted, again, strict=True)}
    return made


def results(case: Case, tensors: Tensors, backend: str, backward: bool = True) -> Tensors:
    """Everything a call gives, with the gradients; the tensors' own memory is worked on."""
    used = leaves(case, tensors) if backward else tensors
    outputs = forward(case, used, backend)
    made = gradients(case, used, outputs) if backward else {}
    return {name: value.detach() for name, value in (outputs | made).items()}


def eager_results(case: Case, tensors: Tensors) -> Tensors:
    """What the case gives in plain PyTorch, in the tensors' own dtype; {} where nothing does."""
    eager = functions()[case.op].eager
    if eager is None or case.options.get("ignore_index") is not None:
        return {}
    used = leaves(case, tensors)
    outputs = eager(**options(case, used), **used)
    made = gradients(replace(case, backward="weights"), used, outputs)
    return {name: value.detach() for name, value in (outputs | made).items()}
