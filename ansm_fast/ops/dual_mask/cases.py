"""All that checks or measures the losses of masks; the operators' own calls are in ``calls.py``."""

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
from ansm_fast.ops.dual_mask import bce_dice_loss, calls, dual_mask_loss, large
from ansm_fast.ops.mask_cases import draw_mask

ONE, TWO = "bce_dice_loss", "dual_mask_loss"
LOGITS = {ONE: ("logits",), TWO: ("logits_adv", "logits_orig")}
MASKS = ("mask", "mask_orig", "bce_target", "bce_target_orig")


# --- the functions, as cases call them ------------------------------------------------------------


def draw(case: Case, generator: torch.Generator) -> Tensors:
    made = {name: case.normal(generator, 3.0) for name in LOGITS[case.op]}
    for logits in made.values():
        if case.values == "huge":
            logits.copy_(logits.sign() * 1e4)
        elif case.values in SPECIAL:
            logits[1, 0, 2, 2] = SPECIAL[case.values]
    for name in MASKS:
        if name in case.options:
            made[name] = draw_mask(case.options[name], case, generator)
    if case.options.get("pos_weight") == "tensor":
        made["pos_weight"] = torch.tensor([2.5])
    return made


def forward(function: Any, **given: Any) -> Tensors:
    loss, components = function(**given, return_components=True)
    return {"loss": loss, "components": components}


def eager_branch(
    logits: Tensor, mask: Tensor, bce_target: Tensor | None = None, *,
    pos_weight: float | Tensor | None = None, bce_weight: float = 1.0, dice_weight: float = 1.0,
    smooth: float = 1.0, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    y = mask.to(logits.dtype)
    target = y if bce_target is None else bce_target.to(logits.dtype)
    weight = None
    if pos_weight is not None:
        weight = torch.as_tensor(pos_weight, dtype=logits.dtype, device=logits.device)
    pixels = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
    p, y = logits.sigmoid().flatten(1), y.flatten(1)
    dice = 1 - (2 * (p * y).sum(1) + smooth) / (p.sum(1) + y.sum(1) + smooth)
    loss = bce_weight * pixels.flatten(1).mean(1) + dice_weight * dice
    return loss if reduction == "none" else getattr(loss, reduction)()


def eager_one(**given: Any) -> Tensors:
    return {"loss": eager_branch(**given)}


def eager_two(
    logits_adv: Tensor, logits_orig: Tensor, mask: Tensor, mask_orig: Tensor | None = None,
    bce_target: Tensor | None = None, bce_target_orig: Tensor | None = None,
    weight_orig: float = 1.0, **options: Any,
) -> Tensors:  # fmt: skip
    mask_orig = mask if mask_orig is None else mask_orig
    first = eager_branch(logits_adv, mask, bce_target, **options)
    second = eager_branch(logits_orig, mask_orig, bce_target_orig, **options)
    return {"loss": first + weight_orig * second}


def tolerance(case: Case, tensors: Tensors) -> Tolerance:
    return Tolerance(1e-11, 1e-12) if case.dtype == DOUBLE else Tolerance(3e-5, 2e-6)


def cases() -> Iterator[Case]:
    for op, dtype, layout in product((ONE, TWO), DTYPES, LAYOUTS):
        quick = layout in NATIVE_LAYOUTS
        yield Case(op, (2, 2, 33, 40), dtype, layout, options={"mask": "bool"}, quick=quick)
        yield Case(op, (3, 1, 97, 91), dtype, layout, options={"mask": "soft"})
    for op, mask, reduction in product(
        (ONE, TWO), ("bool", "uint8", "soft", "ignored"), ("mean", "sum", "none")
    ):
        options = {"mask": mask, "reduction": reduction, "pos_weight": 2.5, "smooth": 1e-6}
        options |= {"ignore_index": 2} if mask == "ignored" else {}
        yield Case(op, (3, 1, 13, 21), options=options, quick=True)
    for op, reduction in product((ONE, TWO), ("mean", "none")):
        options = {"reduction": reduction}
        yield Case(op, (3, 1, 13, 21), options=options | {"mask": "0 and 255"}, quick=True)
        options |= {"mask": "ignored sample", "ignore_index": 2, "smooth": 0.0}
        yield Case(op, (3, 1, 13, 21), options=options, quick=True)
        for name in ("bce_weight", "dice_weight"):
            options = {"reduction": reduction, "mask": "soft", name: 0.0}
            yield Case(op, (3, 1, 13, 21), options=options, quick=True)
    for dtype in DTYPES:
        options = {"mask": "bool", "bce_target": "soft", "pos_weight": "tensor", "bce_weight": 0.9}
        yield Case(ONE, (2, 1, 31, 17), dtype, options=options, quick=dtype == FLOAT)
        second = {"mask_orig": "soft", "bce_target_orig": "soft", "weight_orig": 1.3}
        yield Case(TWO, (2, 1, 31, 17), dtype, options=options | second, quick=dtype == FLOAT)
    for shape in ((1, 1, 1, 1), (2, 5), (2, 1, 3, 4, 5), (1, 1, 700, 701)):
        quick = len(shape) != 4 or shape[-1] == 1
        yield Case(TWO, shape, options={"mask": "uint8"}, quick=quick)
    for backward in ("ones", "twice"):
        yield Case(TWO, (2, 1, 20, 21), options={"mask": "bool"}, backward=backward, quick=True)
    for mask, pos_weight in product(("bool", "soft"), (None, 2.0)):
        options = {"mask": mask, "pos_weight": pos_weight}
        yield Case(TWO, (2, 1, 8, 9), values="huge", options=options, quick=True)
        options |= {"reduction": "none"}
        for values in SPECIAL:
            rule = "not finite"
            yield Case(ONE, (3, 1, 5, 5), values=values, rule=rule, options=options, quick=True)
    for reduction in ("mean", "none"):
        options = {"mask": "bool", "reduction": reduction}
        yield Case(TWO, (0, 1, 4, 4), rule="reference", options=options, quick=True)


# --- what is timed --------------------------------------------------------------------------------

IMAGES = (8, 1, 512, 512)


def eager_mean(logits: Tensor, mask: Tensor) -> Tensor:
    """BCE + Dice as most write it."""
    bce = F.binary_cross_entropy_with_logits(logits, mask)
    p = torch.sigmoid(logits)
    overlap = (p * mask).flatten(1).sum(1)
    total = p.flatten(1).sum(1) + mask.flatten(1).sum(1)
    return bce + (1 - (2 * overlap + 1) / (total + 1)).mean()


def eager_dual_mask(adv: Tensor, orig: Tensor, mask: Tensor) -> Tensor:
    return eager_mean(adv, mask) + eager_mean(orig, mask)


def with_float_mask(adv: Tensor, orig: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """PyTorch's own loss takes no bool."""
    return adv, orig, mask.to(adv.dtype)


def _inputs(shape: Shape, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    adv, orig = (torch.randn(shape, device=device).to(dtype).requires_grad_() for _ in range(2))
    return adv, orig, torch.rand(shape, device=device) > 0.8


def benchmarks() -> Iterator[Benchmark]:
    for shape, dtype in product((IMAGES, (16, 1, 1024, 1024)), (FLOAT, BRAIN)):
        # Forward both logits and the mask; backward the same and both gradients.
        least = math.prod(shape) * (6 * dtype.itemsize + 2)
        yield Benchmark(
            "dual_mask forward+backward", shape, dtype, least, partial(_inputs, shape, dtype),
            dual_mask_loss, eager_dual_mask, with_float_mask,
            bytes_for_eager=math.prod(shape) * 8 * dtype.itemsize, quick=shape == IMAGES,
            cpu_targets={"copy": 3.0},
        )  # fmt: skip


_FEATURES = {"mask": "bool", "pos_weight": "tensor"}
OPERATORS = ("dual_mask", "dual_mask_backward")
CASES = OpCases(
    functions={
        ONE: Function(
            draw, partial(forward, bce_dice_loss), OPERATORS, LOGITS[ONE],
            eager=eager_one, tolerance=tolerance, loss=True,
        ),
        TWO: Function(
            draw, partial(forward, dual_mask_loss), OPERATORS, LOGITS[TWO],
            eager=eager_two, tolerance=tolerance, loss=True,
        ),
    },
    cases=cases,
    features=(
        Case(TWO, (2, 1, 90, 91), options=_FEATURES | {"mask_orig": "soft"}),
        Case(ONE, (2, 1, 90, 91), HALF, options=_FEATURES | {"reduction": "none"}),
    ),
    benchmarks=benchmarks,
    calls=calls.calls,
    traffic=calls.traffic,
    large=large.calls,
    opchecks=calls.opchecks,
    compiled=calls.compiled,
    large_checks=(
        LargeCheck(TWO, large.many_samples, 10),
        LargeCheck(TWO, large.one_sample, 10),
    ),
)  # fmt: skip
