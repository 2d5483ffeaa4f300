"""All that checks or measures the focal loss; the operators' own calls are in ``calls.py``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ansm_fast.ops.cases import (
    BRAIN,
    DOUBLE,
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
    Tolerance,
)
from ansm_fast.ops.focal import calls, focal_loss
from ansm_fast.ops.large import PART, apart, uniform
from ansm_fast.ops.mask_cases import draw_mask

NAME = "focal_loss"


# --- the function, as cases call it ---------------------------------------------------------------


def draw(case: Case, generator: torch.Generator) -> Tensors:
    logits = case.normal(generator, 3.0)
    if case.values == "huge":
        logits = logits.sign() * 1e4
    elif case.values in SPECIAL:
        logits[1, 0, 2, 2] = SPECIAL[case.values]
    made = {"logits": logits, "mask": draw_mask(case.options["mask"], case, generator)}
    if case.options.get("pos_weight") == "tensor":
        made["pos_weight"] = torch.tensor([2.5])
    return made


def forward(**given: Any) -> Tensors:
    return {"loss": focal_loss(**given)}


def eager_loss(
    logits: Tensor, mask: Tensor, *, alpha: float | None = 0.25, gamma: float = 2.0,
    pos_weight: float | Tensor | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """As torchvision.ops.sigmoid_focal_loss has it."""
    y = mask.to(logits.dtype)
    weight = None
    if pos_weight is not None:
        weight = torch.as_tensor(pos_weight, dtype=logits.dtype, device=logits.device)
    p = torch.sigmoid(logits)
    loss = F.binary_cross_entropy_with_logits(logits, y, pos_weight=weight, reduction="none")
    loss = loss * (1 - (p * y + (1 - p) * (1 - y))) ** gamma
    if alpha is not None:
        loss = loss * (alpha * y + (1 - alpha) * (1 - y))
    return loss if reduction == "none" else getattr(loss, reduction)()


def eager(**given: Any) -> Tensors:
    return {"loss": eager_loss(**given)}


def tolerance(case: Case, tensors: Tensors) -> Tolerance:
    return Tolerance(1e-11, 1e-12) if case.dtype == DOUBLE else Tolerance(3e-5, 2e-6)


def cases() -> Iterator[Case]:
    options: dict[str, Any]
    for dtype, layout in product(DTYPES, LAYOUTS):
        quick = layout in NATIVE_LAYOUTS
        for reduction in ("mean", "none"):
            options = {"mask": "bool", "reduction": reduction}
            yield Case(NAME, (2, 2, 33, 40), dtype, layout, options=options, quick=quick)
        options = {"mask": "soft", "gamma": 1.5}
        yield Case(NAME, (3, 1, 97, 91), dtype, layout, options=options)
    for mask, reduction, gamma in product(
        ("uint8", "soft", "ignored", "0 and 255"), ("mean", "sum", "none"), (0.0, 0.5, 2.0)
    ):
        options = {"mask": mask, "reduction": reduction, "gamma": gamma, "pos_weight": 2.5}
        options |= {"ignore_index": 2, "alpha": None} if mask == "ignored" else {}
        yield Case(NAME, (3, 1, 13, 21), options=options, quick=True)
    for dtype in DTYPES:
        options = {"mask": "uint8", "pos_weight": "tensor", "alpha": 0.75}
        yield Case(NAME, (2, 1, 31, 17), dtype, options=options, quick=dtype == FLOAT)
    for shape in ((1,), (1, 1, 1, 1), (2, 5), (2, 1, 3, 4, 5), (1, 1, 700, 701)):
        yield Case(NAME, shape, options={"mask": "uint8"}, quick=shape[-1] < 700)
    for backward in ("ones", "twice"):
        yield Case(NAME, (2, 1, 20, 21), options={"mask": "bool"}, backward=backward, quick=True)
    for mask, gamma in product(("bool", "soft"), (0.0, 0.5, 2.0)):
        options = {"mask": mask, "gamma": gamma}
        yield Case(NAME, (2, 1, 8, 9), values="huge", options=options, quick=True)
        options |= {"reduction": "none"}
        for values in SPECIAL:
            rule = "not finite"
            yield Case(NAME, (3, 1, 5, 5), values=values, rule=rule, options=options, quick=True)
    for reduction in ("mean", "sum", "none"):
        options = {"mask": "bool", "reduction": reduction}
        yield Case(NAME, (0, 1, 4, 4), rule="reference", options=options, quick=True)


def on_many(backend: str, device: torch.device, elements: int) -> str | None:
    """A short tensor repeated: the mean stays, and the gradient is divided by the repeats."""
    logits = uniform(PART, device, FLOAT, 1).mul(6).sub(3).to(BRAIN)
    mask, repeats = uniform(PART, device, FLOAT, 2) > 0.5, -(-elements // PART)
    long = logits.repeat(repeats).requires_grad_()
    loss = focal_loss(long, mask.repeat(repeats), backend=backend)
    (gradient,) = torch.autograd.grad(loss * 2.0**16, long)
    short = logits.double().requires_grad_()
    exact = focal_loss(short, mask, backend="reference")
    (true,) = torch.autograd.grad(exact * 2.0**16, short)
    wrong = apart(loss.detach(), exact.detach(), 1e-2)
    if wrong:
        return f"loss: {wrong}"
    for start in (0, repeats // 2 * PART, long.numel() - PART):
        wrong = apart(gradient[start : start + PART], true / repeats, 2e-2)
        if wrong:
            return f"gradient from {start}: {wrong}"
    return None


# --- what is timed --------------------------------------------------------------------------------

IMAGES = (8, 1, 512, 512)


def with_float_mask(logits: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """PyTorch's own loss takes no bool."""
    return logits, mask.to(logits.dtype)


def _inputs(shape: Shape, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    logits = torch.randn(shape, device=device).to(dtype).requires_grad_()
    return logits, torch.rand(shape, device=device) > 0.8


def benchmarks() -> Iterator[Benchmark]:
    for shape, dtype in product((IMAGES, (16, 1, 1024, 1024)), (FLOAT, BRAIN)):
        # Forward the logits and the mask; backward the same and the gradient.
        least = math.prod(shape) * (3 * dtype.itemsize + 2)
        yield Benchmark(
            "focal forward+backward", shape, dtype, least, partial(_inputs, shape, dtype),
            focal_loss, eager_loss, with_float_mask,
            bytes_for_eager=math.prod(shape) * 5 * dtype.itemsize, quick=shape == IMAGES,
            cpu_targets={"copy": 3.0},
        )  # fmt: skip


_FEATURES = {"mask": "bool", "pos_weight": "tensor"}
CASES = OpCases(
    functions={
        NAME: Function(
            draw, forward, ("focal", "focal_backward"), ("logits",), eager=eager,
            tolerance=tolerance, loss=True,
        )
    },
    cases=cases,
    features=(
        Case(NAME, (2, 1, 90, 91), options=_FEATURES),
        Case(NAME, (2, 1, 90, 91), HALF, options=_FEATURES | {"reduction": "none"}),
    ),
    benchmarks=benchmarks,
    calls=calls.calls,
    traffic=calls.traffic,
    large=calls.large,
    opchecks=calls.opchecks,
    compiled=calls.compiled,
    large_checks=(LargeCheck(NAME, on_many, 8),),
)  # fmt: skip
