"""All that checks or measures channelwise_kl; the operators' own calls stand in ``calls.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
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
from ansm_fast.ops.channelwise_kl import calls, channelwise_kl, large
from ansm_fast.ops.channelwise_kl.options import DIRECTIONS, REDUCTIONS

OP, PAIRS = "channelwise_kl", "channelwise_kl of pairs"


# --- the functions, as cases call them ------------------------------------------------------------


def draw(case: Case, generator: torch.Generator) -> Tensors:
    input, target = (case.normal(generator, 3.0) for _ in range(2))
    if "huge" in case.values:
        input, target = (x.sign() * 1e4 for x in (input, target))
    if "equal" in case.values:
        target = input.clone()
    if case.values in SPECIAL:
        input[0, 1, :40] = SPECIAL[case.values]
        target[1, 2, 5:9] = SPECIAL[case.values]
        target[1, 1, 45:] = input[1, 1, 45:] = SPECIAL[case.values]
    return {"input": input, "target": target}


def draw_pairs(case: Case, generator: torch.Generator) -> Tensors:
    first = draw(case, generator)
    other = replace(case, shape=(1, 2, 50, 40))
    more = [other.normal(generator) for _ in range(2)]
    return {
        "input 0": first["input"], "input 1": more[0],
        "target 0": first["target"], "target 1": more[1],
    }  # fmt: skip


def forward(**given: Any) -> Tensors:
    return {"loss": channelwise_kl(**given)}


def forward_pairs(**given: Any) -> Tensors:
    input, target = ([given.pop(f"{x} {i}") for i in range(2)] for x in ("input", "target"))
    loss = channelwise_kl(input, target, **given)
    return (
        {f"loss {i}": x for i, x in enumerate(loss)} if isinstance(loss, list) else {"loss": loss}
    )


def eager(
    input: Tensor, target: Tensor, temperature: float = 1.0, alpha: float = 0.0,
    direction: str = DIRECTIONS[0], reduction: str = "mean",
) -> Tensors:  # fmt: skip
    log_p, log_q = ((x / temperature).flatten(2).log_softmax(2) for x in (input, target))
    if direction == "target_input":
        log_p, log_q = log_q, log_p
    if alpha:
        p, q = log_p.exp(), log_q.exp()
        rows = (p * ((p + alpha) / (q + alpha)).log()).sum(2)
    else:
        rows = F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(2)
    return {"loss": rows if reduction == "none" else rows.sum() / divisor(input.shape, reduction)}


def divisor(shape: Shape, reduction: str) -> int:
    batch, channels, *space = shape
    return {
        "batchmean": batch, "channelmean": batch * channels,
        "mean": batch * channels * math.prod(space),
    }.get(reduction, 1)  # fmt: skip


def tolerance(case: Case, tensors: Tensors) -> Tolerance:
    """Loss and gradient may be small differences of terms, rounded as such."""
    rounding, temperature = torch.finfo(case.dtype).eps, case.options.get("temperature", 1.0)
    inputs = [name for name in tensors if name.startswith("input")]
    pairs = [(tensors[name], tensors[name.replace("input", "target")]) for name in inputs]
    spread = max(float((a.double() - b.double()).abs().max()) for a, b in pairs)
    terms = 3 / temperature * (1 + spread / temperature)
    # Of one sample: a loss is the mean over samples whose own terms are as large.
    terms /= divisor((1, *case.shape[1:]), case.options.get("reduction", "mean"))
    return Tolerance(1e-11 if case.dtype == DOUBLE else 64 * rounding, 4 * rounding * terms, 4.0)


def cases() -> Iterator[Case]:
    # Short rows, some that fit on chip, long ones of which there are few; few and many channels.
    shapes = ((2, 3, 7, 9), (2, 130, 11, 5), (1, 3, 64, 65), (1, 2, 151, 149))
    for shape, dtype, layout in product(shapes, DTYPES, LAYOUTS):
        quick = shape in shapes[:2] and layout in NATIVE_LAYOUTS
        yield Case(OP, shape, dtype, layout, options={"reduction": "sum"}, quick=quick)
    for alpha, direction, layout in product((0.0, 1e-3), DIRECTIONS, NATIVE_LAYOUTS):
        options = {"alpha": alpha, "direction": direction, "temperature": 2.0}
        for shape in ((2, 5, 13, 11), (1, 3, 64, 65)):
            for dtype in (FLOAT, HALF):
                quick = dtype == FLOAT and shape[0] == 2
                yield Case(OP, shape, dtype, layout, options=options, quick=quick)
    for reduction, layout in product(REDUCTIONS, NATIVE_LAYOUTS):
        options = {"reduction": reduction}
        yield Case(OP, (2, 3, 9, 4), FLOAT, layout, options=options, quick=True)
    for space in ((17,), (3, 4, 5), (1, 1)):
        yield Case(OP, (2, 3, *space), quick=True)
    yield Case(OP, (1, 1, 1000, 1201))
    for backward, layout in product(("ones", "twice"), NATIVE_LAYOUTS):
        yield Case(OP, (2, 3, 20, 21), FLOAT, layout, backward=backward, quick=True)
    # Gradients that float16 holds as scaled ones alone.
    for dtype, layout, op in product((HALF, BRAIN), NATIVE_LAYOUTS, (OP, PAIRS)):
        for reduction in ("mean", "none"):
            options = {"reduction": reduction, "alpha": 0.0 if reduction == "none" else 1e-3}
            quick = reduction == "mean" and dtype == HALF
            yield Case(
                op, (2, 5, 64, 65), dtype, layout, options=options, backward="scaled", quick=quick
            )
    for dtype, layout, alpha in product(DTYPES, NATIVE_LAYOUTS, (0.0, 0.1)):
        for values in ("equal", "equal huge"):
            options = {"alpha": alpha}
            yield Case(OP, (2, 20, 40, 3), dtype, layout, values, "zero", options, quick=True)
    for dtype, layout in product((FLOAT, DOUBLE), NATIVE_LAYOUTS):
        yield Case(OP, (2, 5, 30, 4), dtype, layout, "huge", quick=True)
    for values, layout, alpha in product(SPECIAL, NATIVE_LAYOUTS, (0.0, 0.1)):
        options = {"alpha": alpha, "reduction": "none"}
        yield Case(OP, (2, 3, 50, 3), FLOAT, layout, values, "reference", options, quick=True)
    for shape, reduction in product(((0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)), ("mean", "none")):
        yield Case(OP, shape, rule="reference", options={"reduction": reduction}, quick=True)
    for layout, reduction, dtype in product(NATIVE_LAYOUTS, ("mean", "none"), DTYPES):
        options = {"reduction": reduction}
        yield Case(PAIRS, (2, 5, 9, 7), dtype, layout, options=options, quick=dtype == FLOAT)


# --- what is timed --------------------------------------------------------------------------------

MAPS = (8, 256, 64, 64)  # of a segmentation network, as FFA and distillation compare them
# Feature maps of four layers, as FFA taps them.
TAPS = ((8, 64, 128, 128), (8, 128, 64, 64), (8, 256, 32, 32), (8, 512, 16, 16))
SHAPES = (MAPS, (16, 512, 128, 128), (32, 1024, 14, 14), (4, 19, 512, 1024))


def eager_mean(input: Tensor, target: Tensor) -> Tensor:
    p, q = (x.flatten(2).log_softmax(2) for x in (input, target))
    return F.kl_div(q, p, log_target=True, reduction="sum") / input.numel()


def eager_distillation(input: Tensor, target: Tensor) -> Tensor:
    return eager_mean(target, input)


def liger_distillation() -> Callable[[Tensor, Tensor], Tensor] | None:
    """Liger-Kernel from log-probabilities, which it takes; None where it is not installed.

    It has a gradient in its first argument only, which is the student of distillation.
    """
    try:
        from liger_kernel.transformers import LigerKLDIVLoss
    except ImportError:
        return None
    loss = LigerKLDIVLoss(reduction="mean", log_target=True)

    def distillation(input: Tensor, target: Tensor) -> Tensor:
        p, q = (x.flatten(2).flatten(0, 1).log_softmax(1) for x in (input, target))
        result: Tensor = loss(p, q)
        return result

    return distillation


def eager_taps(*maps: Tensor) -> Tensor:
    half = len(maps) // 2
    each = [eager_mean(a, b) for a, b in zip(maps[:half], maps[half:], strict=True)]
    return torch.stack(each).mean()


def ours_taps(*maps: Tensor, backend: str | None = None) -> Tensor:
    half = len(maps) // 2
    loss = channelwise_kl(maps[:half], maps[half:], backend=backend)
    assert isinstance(loss, Tensor)
    return loss


def _maps(
    shapes: tuple[Shape, ...], dtype: torch.dtype, last: bool, device: torch.device
) -> tuple[Tensor, ...]:
    maps = [torch.randn(shape, device=device).to(dtype) for _ in range(2) for shape in shapes]
    if last:
        maps = [x.contiguous(memory_format=torch.channels_last) for x in maps]
    for input in maps[: len(shapes)]:
        input.requires_grad_()
    return tuple(maps)


def benchmarks() -> Iterator[Benchmark]:
    distillation: Callable[..., Tensor] = partial(channelwise_kl, direction="target_input")
    for shape, dtype in product(SHAPES, (FLOAT, BRAIN)):
        least = 3 * math.prod(shape) * dtype.itemsize  # both maps read, the gradient written
        plain, last = (partial(_maps, (shape,), dtype, is_last) for is_last in (False, True))
        quick = shape == MAPS
        name = "channelwise_kl forward+backward"
        yield Benchmark(
            name, shape, dtype, least, plain, channelwise_kl, eager_mean, quick=quick,
            cpu_targets={"copy": 2.2},
        )  # fmt: skip
        if shape in SHAPES[:3]:
            yield Benchmark(
                "channelwise_kl channels_last", shape, dtype, least, last, channelwise_kl,
                eager_mean, quick=quick, cpu_targets={name: 1.3},
            )  # fmt: skip
            yield Benchmark(
                "channelwise_kl distillation", shape, dtype, least, plain, distillation,
                eager_distillation, peers={"liger": liger_distillation}, quick=quick,
            )  # fmt: skip
    for dtype in (FLOAT, BRAIN):
        least = 3 * sum(map(math.prod, TAPS)) * dtype.itemsize
        inputs = partial(_maps, TAPS, dtype, False)
        name = "channelwise_kl four layers"
        yield Benchmark(name, TAPS[0], dtype, least, inputs, ours_taps, eager_taps, quick=True)


CASES = OpCases(
    functions={
        OP: Function(
            draw, forward,
            ("channelwise_kl", "channelwise_kl_backward", "channelwise_kl_scale_"),
            ("input", "target"), eager=eager, tolerance=tolerance, loss=True,
        ),
        PAIRS: Function(
            draw_pairs, forward_pairs, ("channelwise_kl_layers",),
            ("input 0", "input 1", "target 0", "target 1"), tolerance=tolerance,
        ),
    },
    cases=cases,
    features=(
        Case(OP, (2, 8, 40, 40)),
        Case(OP, (2, 8, 40, 40), HALF, "channels_last", options={"alpha": 1e-3}),
        Case(OP, (1, 2, 300, 301), options={"reduction": "none"}),
        Case(PAIRS, (2, 8, 40, 40)),
    ),
    benchmarks=benchmarks,
    calls=calls.calls,
    traffic=calls.traffic,
    large=large.calls,
    opchecks=calls.opchecks,
    compiled=calls.compiled,
    large_checks=(
        LargeCheck(OP, large.many_rows, 12),
        LargeCheck(OP, large.one_row, 12),
    ),
    same_kernels={"channelwise_kl_layers": "channelwise_kl"},
)  # fmt: skip
