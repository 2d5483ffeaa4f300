"""All that checks or measures projections and steps; the operators' calls: ``calls.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.cases import (
    BRAIN,
    DTYPES,
    FLOAT,
    HALF,
    LAYOUTS,
    NATIVE_LAYOUTS,
    SPECIAL,
    Benchmark,
    Case,
    Function,
    LargeCheck,
    OpCases,
    Shape,
    Tensors,
    per_sample,
)
from ansm_fast.ops.perturbation import calls, clamp_project, large, momentum_step_, pgd_step_

PROJECT, PGD, MOMENTUM = OPS = ("clamp_project", "pgd_step_", "momentum_step_")


# --- the functions, as cases call them ------------------------------------------------------------


def draw(case: Case, generator: torch.Generator) -> Tensors:
    image = case.uniform(generator)
    if case.values == "levels":
        image = (image * 255).floor() / 255
    made = {"image": image.to(case.dtype)}
    perturbation = case.normal(generator, 0.1)
    if case.op == PROJECT:
        made["perturbation"] = changed = perturbation
    else:
        zero = case.options["eps"] == 0 or case.values in ("zero", "levels")
        moved = made["image"] + perturbation * (0 if zero else 0.2)
        made |= {"adv": moved.clamp(0, 1), "grad": case.normal(generator)}
        if case.op == MOMENTUM:
            made["momentum"] = case.normal(generator) * (0 if zero else 1)
        changed = made["grad"]
        if case.values == "zero":
            changed *= 0
    if case.values in SPECIAL:
        changed[0, 0, 0, 0] = SPECIAL[case.values]
        made["image"][1, 0, 2, 2] = SPECIAL[case.values]
    return made | per_sample(case)


def forward(**given: Any) -> Tensors:
    return {"result": clamp_project(**given)}


def step(**given: Any) -> Tensors:
    pgd_step_(**given)
    return {"adv": given["adv"]}


def momentum_step(**given: Any) -> Tensors:
    momentum_step_(**given)
    return {"adv": given["adv"], "momentum": given["momentum"]}


def _shaped(value: float | Tensor, like: Tensor) -> float | Tensor:
    if not isinstance(value, Tensor):
        return value
    return value.to(like.dtype).reshape(-1, *(1,) * (like.dim() - 1))


def _length(tensor: Tensor) -> Tensor:
    return tensor.flatten(1).norm(dim=1).reshape(-1, *(1,) * (tensor.dim() - 1))


def _project(image: Tensor, delta: Tensor, eps: float | Tensor, norm: str) -> Tensor:
    bound = _shaped(eps, image)
    if norm == "linf":
        delta = delta.minimum(torch.as_tensor(bound, dtype=delta.dtype, device=delta.device))
        delta = delta.maximum(torch.as_tensor(-bound, dtype=delta.dtype, device=delta.device))
    else:
        delta = delta * (bound / _length(delta).clamp(min=1e-7)).clamp(max=1)
    return (image + delta).clamp(0, 1)


def eager(image: Tensor, perturbation: Tensor, eps: Any, norm: str = "linf") -> Tensors:
    return {"result": _project(image, perturbation, eps, norm)}


def eager_step(
    adv: Tensor, grad: Tensor, image: Tensor, alpha: Any, eps: Any, norm: str = "linf"
) -> Tensors:
    direction = grad.sign() if norm == "linf" else grad / _length(grad).clamp(min=1e-7)
    moved = adv + _shaped(alpha, adv) * direction
    return {"adv": adv.copy_(_project(image, moved - image, eps, norm))}


def eager_momentum_step(
    adv: Tensor, momentum: Tensor, grad: Tensor, *, decay: float = 1.0, **rest: Any
) -> Tensors:
    mean = grad.abs().flatten(1).mean(1).reshape(-1, *(1,) * (grad.dim() - 1))
    momentum.copy_(decay * momentum + grad / mean)
    return eager_step(adv, momentum, **rest) | {"momentum": momentum}


def cases() -> Iterator[Case]:
    options: dict[str, Any]
    for op, norm, eps in product(OPS, ("linf", "l2"), (0.0625, "per sample")):
        options = {"eps": eps, "norm": norm}
        options |= {} if op == PROJECT else {"alpha": eps}
        options |= {"decay": 0.75} if op == MOMENTUM else {}
        for dtype, layout in product(DTYPES, LAYOUTS):
            quick = layout in NATIVE_LAYOUTS and dtype in (FLOAT, BRAIN)
            yield Case(op, (3, 3, 40, 33), dtype, layout, options=options, quick=quick)
        for shape in ((1, 3, 1, 1), (2, 9), (2, 3, 3, 4, 5), (2, 3, 260, 251)):
            quick = len(shape) != 4 or shape[-1] == 1
            yield Case(op, shape, options=options, quick=quick)
        yield Case(op, (0, 3, 4, 4), rule="reference", options=options, quick=True)
        yield Case(op, (2, 3, 9, 9), FLOAT, "contiguous", "nan", "reference", options, quick=True)
    for op, norm, dtype in product(OPS, ("linf", "l2"), DTYPES):
        options = {"eps": 0.0, "norm": norm} | ({} if op == PROJECT else {"alpha": 0.1})
        yield Case(op, (2, 3, 9, 11), dtype, rule="unchanged", options=options, quick=True)
        if op != PROJECT:
            options = {"eps": 0.1, "alpha": 0.1, "norm": norm}
            yield Case(
                op, (2, 3, 9, 11), dtype, values="zero", rule="unchanged", options=options,
                quick=dtype == FLOAT,
            )  # fmt: skip
    for op, levels, dtype in product((PROJECT, PGD), (1, 4), DTYPES):
        options = {"eps": levels / 255} | ({} if op == PROJECT else {"alpha": levels / 128})
        yield Case(op, (2, 3, 40, 41), dtype, "contiguous", "levels", "budget", options, quick=True)


# --- what is timed --------------------------------------------------------------------------------

IMAGES = (8, 3, 512, 512)
ALPHA, EPS = 1 / 255, 4 / 255


def plain_project(image: Tensor, perturbation: Tensor) -> Tensor:
    return (image + perturbation.clamp(-EPS, EPS)).clamp(0, 1)


def plain_step(adv: Tensor, grad: Tensor, image: Tensor) -> Tensor:
    moved = adv + ALPHA * grad.sign()
    return adv.copy_((image + (moved - image).clamp(-EPS, EPS)).clamp(0, 1))


def plain_momentum_step(adv: Tensor, momentum: Tensor, grad: Tensor, image: Tensor) -> Tensor:
    momentum.copy_(momentum + grad / grad.abs().flatten(1).mean(1).view(-1, 1, 1, 1))
    return plain_step(adv, momentum, image)


def timed_project(image: Tensor, perturbation: Tensor, backend: str | None = None) -> Tensor:
    return clamp_project(image, perturbation, EPS, backend=backend)


def timed_step(*tensors: Tensor, backend: str | None = None) -> Tensor:
    function: Callable[..., Tensor] = momentum_step_ if len(tensors) == 4 else pgd_step_
    return function(*tensors, ALPHA, EPS, backend=backend)


def _inputs(op: str, shape: Shape, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    image = torch.rand(shape, device=device).to(dtype)
    grad = torch.randn(shape, device=device).to(dtype)
    if op == PROJECT:
        return image, grad
    momentum = (torch.zeros_like(grad),) if op == MOMENTUM else ()
    return (image.clone(), *momentum, grad, image)


def benchmarks() -> Iterator[Benchmark]:
    # Reads and writes of the formula, as the op folder's README counts them.
    timed: dict[str, tuple[int, Any, Any]] = {
        PROJECT: (3, timed_project, plain_project),
        PGD: (4, timed_step, plain_step),
        MOMENTUM: (7, timed_step, plain_momentum_step),
    }
    for shape, dtype in product((IMAGES, (32, 3, 1024, 1024)), (FLOAT, BRAIN)):
        for op, (passes, ours, plain) in timed.items():
            least = passes * math.prod(shape) * dtype.itemsize
            inputs = partial(_inputs, op, shape, dtype)
            yield Benchmark(
                op, shape, dtype, least, inputs, ours, plain, quick=shape == IMAGES,
                # Not momentum_step_: torch.compile fails on eager's (KeyError in Inductor, 2.13).
                cpu_targets={} if op == MOMENTUM else {"copy": 2.0},
            )  # fmt: skip


_EPS: dict[str, Any] = {"eps": "per sample"}
_STEP = _EPS | {"alpha": 0.05}
CASES = OpCases(
    functions={
        PROJECT: Function(
            draw, forward, ("clamp_project", "clamp_project_backward"),
            ("image", "perturbation"), eager=eager,
        ),
        PGD: Function(draw, step, (PGD,), eager=eager_step),
        MOMENTUM: Function(
            draw, momentum_step, (MOMENTUM,), eager=eager_momentum_step,
        ),
    },
    cases=cases,
    features=(
        Case(PROJECT, (2, 3, 90, 91), options=_EPS),
        Case(PROJECT, (2, 3, 90, 91), options=_EPS | {"norm": "l2"}),
        Case(PGD, (2, 3, 90, 91), options=_STEP),
        Case(PGD, (2, 3, 90, 91), HALF, options=_STEP | {"norm": "l2"}),
        Case(MOMENTUM, (2, 3, 90, 91), options=_STEP),
    ),
    benchmarks=benchmarks,
    calls=calls.calls,
    traffic=calls.traffic,
    large=large.calls,
    opchecks=calls.opchecks,
    compiled=calls.compiled,
    large_checks=(LargeCheck(PROJECT, large.project, 10), LargeCheck(PGD, large.step, 10)),
)  # fmt: skip
