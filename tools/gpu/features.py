"""What PyTorch offers around an op: CUDA graphs, streams, devices, compile, autocast."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from ansm_fast.ops.cases import FLOAT, Case, Tensors
from tools.cases import described, functions
from tools.gpu import calls
from tools.gpu.correctness import NOT_RUN, Outcome, attempt, why_not

# Of each op those that differ in what is launched.
CALLS = tuple(case for op in described().values() for case in op.features)


def differs(found: Tensors, expected: Tensors, exactly: bool = True) -> str | None:
    for name, value in expected.items():
        one, other = found[name], value
        if exactly and not torch.equal(one, other):
            apart = float((one.double() - other.double()).abs().max())
            return f"{name} is off by {apart:.3g} from the plain call's"
        if not exactly:
            tolerance = 4 * torch.finfo(other.dtype).eps if other.is_floating_point() else 0
            size = float(other.double().abs().max())
            apart = float((one.double() - other.double()).abs().max())
            if not apart <= tolerance * max(size, 1e-30) + tolerance * 1e-3:
                return f"{name} is off by {apart:.3g} of {size:.3g} from the plain call's"
    return None


def _plain(case: Case, backend: str, device: torch.device, seed: int = 0) -> Tensors:
    tensors = calls.placed(calls.make(case, seed), case.layout, device)
    return calls.results(case, tensors, backend)


@contextmanager
def _synchronization_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def no_synchronization(case: Case, backend: str, device: torch.device) -> str | None:
    """Forward and backward while PyTorch takes every wait of the host for an error."""
    tensors = calls.placed(calls.make(case), case.layout, device)
    torch.cuda.synchronize(device)
    with _synchronization_is_an_error():
        calls.results(case, tensors, backend)
    return None


def graph(case: Case, backend: str, device: torch.device) -> str | None:
    """Captured with some numbers and replayed with others, forward and backward."""
    with torch.cuda.device(device):
        static = calls.placed(calls.make(case), case.layout, device)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):  # what is compiled or allocated once
                calls.results(case, static, backend)
        torch.cuda.current_stream().wait_stream(side)
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            found = calls.results(case, static, backend)
        for seed in (1, 2):
            for name, tensor in calls.make(case, seed).items():
                static[name].copy_(tensor)
            captured.replay()
            torch.cuda.synchronize()
            wrong = differs(found, _plain(case, backend, device, seed))
            if wrong:
                return f"replay {seed}: {wrong}"
    return None


def other_stream(case: Case, backend: str, device: torch.device) -> str | None:
    """On a stream that is still writing the arguments: a launch elsewhere would read old ones."""
    with torch.cuda.device(device):
        expected = _plain(case, backend, device, seed=1)
        old = calls.placed(calls.make(case), case.layout, device)
        new = calls.placed(calls.make(case, 1), case.layout, device)
        torch.cuda.synchronize()
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            torch.cuda._sleep(20_000_000)
            for name, tensor in new.items():
                old[name].copy_(tensor)
            found = calls.results(case, old, backend)
        side.synchronize()
        return differs(found, expected)


def other_device(case: Case, backend: str, device: torch.device) -> str | None:
    """Tensors of a device that is not the current one."""
    expected = _plain(case, backend, device)
    with torch.cuda.device(0):
        found = _plain(case, backend, torch.device("cuda", 1))
        if torch.cuda.current_device() != 0:
            return "the current device is another one afterwards"
    wrong = [name for name, value in found.items() if value.device.index != 1]
    if wrong:
        return f"{', '.join(wrong)}: on another device than the arguments"
    # Two devices need not be of one kind, hence not bit for bit.
    return differs({k: v.to(device) for k, v in found.items()}, expected, exactly=False)


def compiled(
    case: Case, backend: str, device: torch.device, compiler: str = "inductor"
) -> str | None:
    """torch.compile(fullgraph=True) of the forward, and the backward that it makes."""
    torch._dynamo.reset()
    expected = _plain(case, backend, device)
    tensors = calls.placed(calls.make(case), case.layout, device)
    forward, options = functions()[case.op].forward, calls.options(case, tensors)
    function = torch.compile(
        lambda given: forward(**options, **given, backend=backend), fullgraph=True, backend=compiler
    )
    used = calls.leaves(case, tensors)
    outputs = function(used)
    found = outputs | calls.gradients(case, used, outputs)
    return differs({k: v.detach() for k, v in found.items()}, expected, exactly=False)


def autocast(case: Case, backend: str, device: torch.device) -> str | None:
    """Losses under autocast: float32 of mixed dtypes, gradients in the arguments' own."""
    tensors = calls.placed(calls.make(replace(case, dtype=FLOAT)), case.layout, device)
    first, *rest = functions()[case.op].differentiable
    tensors[first] = tensors[first].bfloat16()
    exact = calls.results(case, calls.in_double(tensors), "reference")
    with torch.autocast(device.type, dtype=torch.bfloat16):
        found = calls.results(case, tensors, backend)
    if found["loss"].dtype != torch.float32:
        return f"the loss is {found['loss'].dtype}, not torch.float32"
    for name in (first, *rest):
        if found[f"gradient of {name}"].dtype != tensors[name].dtype:
            return f"the gradient of {name} is {found[f'gradient of {name}'].dtype}"
    for name, true in exact.items():
        bound = 1e-4 if found[name].dtype == torch.float32 else 1e-2
        size = float(true.abs().max())
        apart = float((found[name].double() - true).abs().max())
        if not apart <= bound * size:
            return f"{name} is off by {apart:.3g} of {size:.3g}"
    return None


Feature = Callable[[Case, str, torch.device], "str | None"]
ON_A_GPU: dict[str, Feature] = {
    "no synchronization": no_synchronization,
    "CUDA graph": graph,
    "another stream": other_stream,
    "another device": other_device,
}
ANYWHERE: dict[str, Feature] = {"compile": compiled, "autocast": autocast}


def _unmet(name: str, case: Case, device: torch.device) -> str | None:
    if name in ON_A_GPU and device.type != "cuda":
        return "needs a GPU"
    if name == "another device" and torch.cuda.device_count() < 2:
        return "there is one GPU only"
    return None


def run(
    backend: str, device: torch.device, features: dict[str, Feature] | None = None
) -> list[Outcome]:
    """Every feature with every op that it concerns."""
    outcomes = []
    for name, feature in (features or ON_A_GPU | ANYWHERE).items():
        for case in CALLS:
            if name == "autocast" and not functions()[case.op].loss:
                continue
            reason = _unmet(name, case, device) or why_not(case, backend, device)
            if reason:
                outcomes.append(Outcome(name, backend, case.op, case.name, NOT_RUN, reason))
                continue
            outcomes.append(
                attempt(
                    name, backend, case.op, case.name,
                    lambda f=feature, c=case: f(c, backend, device),
                )
            )  # fmt: skip
    return outcomes
