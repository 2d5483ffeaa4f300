"""Every call that is checked, as data: nothing here knows of a device or a backend.

In ``options`` a word stands for a tensor that ``calls.make`` draws: "per sample" for an eps or
alpha of each sample, "tensor" for a pos_weight, and the kinds of masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch

FLOAT, DOUBLE, HALF, BRAIN = torch.float32, torch.float64, torch.float16, torch.bfloat16
DTYPES = (FLOAT, DOUBLE, HALF, BRAIN)
LAYOUTS = ("contiguous", "channels_last", "gaps", "misaligned")
BOTH_ORDERS = LAYOUTS[:2]
PAIRS = "channelwise_kl of pairs"
OPS = (
    "channelwise_kl",
    PAIRS,
    "dual_mask_loss",
    "bce_dice_loss",
    "clamp_project",
    "pgd_step_",
    "momentum_step_",
    "image_pack",
    "image_unpack",
)
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One call of an op.

    values: "random", "equal" (both arguments the same), "huge" (logits of +-1e4), "zero" (the
        perturbation or gradient), or "-inf", "inf", "nan": these in some places.
    rule: what ``rules`` holds the results to.
    backward: by which gradient, "weights" or "ones", "scaled" as by a GradScaler, or "twice" by
        weights, the graph kept.
    """

    op: str
    shape: Shape
    dtype: torch.dtype = FLOAT
    layout: str = "contiguous"
    values: str = "random"
    rule: str = "truth"
    options: dict[str, Any] = field(default_factory=dict)
    backward: str = "weights"
    quick: bool = False

    @property
    def name(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        words = [self.op, "x".join(map(str, self.shape)), dtype, self.layout]
        words += [] if self.values == "random" else [self.values]
        words += [] if self.backward == "weights" else [f"backward by {self.backward}"]
        return " ".join(words + [f"{k}={v}" for k, v in self.options.items()])


def _kl() -> Iterator[Case]:
    op = "channelwise_kl"
    # Short rows, some that fit on chip, long ones of which there are few; few and many channels.
    shapes = ((2, 3, 7, 9), (2, 130, 11, 5), (1, 3, 64, 65), (1, 2, 151, 149))
    for shape, dtype, layout in product(shapes, DTYPES, LAYOUTS):
        quick = shape in shapes[:2] and layout in BOTH_ORDERS
        yield Case(op, shape, dtype, layout, options={"reduction": "sum"}, quick=quick)
    for alpha, direction, layout in product(
        (0.0, 1e-3), ("input_target", "target_input"), BOTH_ORDERS
    ):
        options = {"alpha": alpha, "direction": direction, "temperature": 2.0}
        for shape in ((2, 5, 13, 11), (1, 3, 64, 65)):
            for dtype in (FLOAT, HALF):
                quick = dtype == FLOAT and shape[0] == 2
                yield Case(op, shape, dtype, layout, options=options, quick=quick)
    for reduction in ("mean", "batchmean", "channelmean", "sum", "none"):
        for layout in BOTH_ORDERS:
            options = {"reduction": reduction}
            yield Case(op, (2, 3, 9, 4), FLOAT, layout, options=options, quick=True)
    for shape in ((2, 3, 17), (2, 3, 3, 4, 5), (2, 3, 1, 1), (1, 1, 1000, 1201)):
        yield Case(op, shape, FLOAT, quick=len(shape) != 4 or shape[-1] == 1)
    for backward, layout in product(("ones", "twice"), BOTH_ORDERS):
        yield Case(op, (2, 3, 20, 21), FLOAT, layout, backward=backward, quick=True)
    # Gradients that float16 holds as scaled ones alone.
    for dtype, layout, name in product((HALF, BRAIN), BOTH_ORDERS, (op, PAIRS)):
        for reduction in ("mean", "none"):
            options = {"reduction": reduction, "alpha": 0.0 if reduction == "none" else 1e-3}
            case = Case(name, (2, 5, 64, 65), dtype, layout, options=options, backward="scaled")
            yield replace(case, quick=reduction == "mean" and dtype == HALF)
    for dtype, layout, alpha in product(DTYPES, BOTH_ORDERS, (0.0, 0.1)):
        for values in ("equal", "equal huge"):
            options = {"alpha": alpha}
            yield Case(op, (2, 20, 40, 3), dtype, layout, values, "zero", options, quick=True)
    for dtype, layout in product((FLOAT, DOUBLE), BOTH_ORDERS):
        yield Case(op, (2, 5, 30, 4), dtype, layout, "huge", quick=True)
    for values, layout, alpha in product(("-inf", "inf", "nan"), BOTH_ORDERS, (0.0, 0.1)):
        options = {"alpha": alpha, "reduction": "none"}
        yield Case(op, (2, 3, 50, 3), FLOAT, layout, values, "reference", options, quick=True)
    for shape, reduction in product(((0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)), ("mean", "none")):
        options = {"reduction": reduction}
        yield Case(op, shape, rule="reference", options=options, quick=True)
    for layout, reduction in product(BOTH_ORDERS, ("mean", "none")):
        for dtype in DTYPES:
            options = {"reduction": reduction}
            yield Case(PAIRS, (2, 5, 9, 7), dtype, layout, options=options, quick=dtype == FLOAT)


def _masks() -> Iterator[Case]:
    one, two = "bce_dice_loss", "dual_mask_loss"
    for op, dtype, layout in product((one, two), DTYPES, LAYOUTS):
        quick = layout in BOTH_ORDERS
        yield Case(op, (2, 2, 33, 40), dtype, layout, options={"mask": "bool"}, quick=quick)
        yield Case(op, (3, 1, 97, 91), dtype, layout, options={"mask": "soft"})
    for op, mask, reduction in product(
        (one, two), ("bool", "uint8", "soft", "ignored"), ("mean", "sum", "none")
    ):
        options = {"mask": mask, "reduction": reduction, "pos_weight": 2.5, "smooth": 1e-6}
        options |= {"ignore_index": 2} if mask == "ignored" else {}
        yield Case(op, (3, 1, 13, 21), options=options, quick=True)
    for op, reduction in product((one, two), ("mean", "none")):
        options = {"reduction": reduction}
        yield Case(op, (3, 1, 13, 21), options=options | {"mask": "0 and 255"}, quick=True)
        options |= {"mask": "ignored sample", "ignore_index": 2, "smooth": 0.0}
        yield Case(op, (3, 1, 13, 21), options=options, quick=True)
        for name in ("bce_weight", "dice_weight"):
            options = {"reduction": reduction, "mask": "soft", name: 0.0}
            yield Case(op, (3, 1, 13, 21), options=options, quick=True)
    for dtype in DTYPES:
        options = {"mask": "bool", "bce_target": "soft", "pos_weight": "tensor", "bce_weight": 0.9}
        yield Case(one, (2, 1, 31, 17), dtype, options=options, quick=dtype == FLOAT)
        second = {"mask_orig": "soft", "bce_target_orig": "soft", "weight_orig": 1.3}
        yield Case(two, (2, 1, 31, 17), dtype, options=options | second, quick=dtype == FLOAT)
    for shape in ((1, 1, 1, 1), (2, 5), (2, 1, 3, 4, 5), (1, 1, 700, 701)):
        quick = len(shape) != 4 or shape[-1] == 1
        yield Case(two, shape, options={"mask": "uint8"}, quick=quick)
    for backward in ("ones", "twice"):
        yield Case(two, (2, 1, 20, 21), options={"mask": "bool"}, backward=backward, quick=True)
    for mask, pos_weight in product(("bool", "soft"), (None, 2.0)):
        options = {"mask": mask, "pos_weight": pos_weight}
        yield Case(two, (2, 1, 8, 9), values="huge", options=options, quick=True)
        for values in ("-inf", "inf", "nan"):
            options = {"mask": mask, "pos_weight": pos_weight, "reduction": "none"}
            yield Case(
                one, (3, 1, 5, 5), values=values, rule="not finite", options=options, quick=True
            )
    for reduction in ("mean", "none"):
        options = {"mask": "bool", "reduction": reduction}
        yield Case(two, (0, 1, 4, 4), rule="reference", options=options, quick=True)


def _perturbations() -> Iterator[Case]:
    ops = ("clamp_project", "pgd_step_", "momentum_step_")
    for op, norm, eps in product(ops, ("linf", "l2"), (0.0625, "per sample")):
        options = {"eps": eps, "norm": norm}
        options |= {} if op == "clamp_project" else {"alpha": eps}
        options |= {"decay": 0.75} if op == "momentum_step_" else {}
        for dtype, layout in product(DTYPES, LAYOUTS):
            quick = layout in BOTH_ORDERS and dtype in (FLOAT, BRAIN)
            yield Case(op, (3, 3, 40, 33), dtype, layout, options=options, quick=quick)
        for shape in ((1, 3, 1, 1), (2, 9), (2, 3, 3, 4, 5), (2, 3, 260, 251)):
            quick = len(shape) != 4 or shape[-1] == 1
            yield Case(op, shape, options=options, quick=quick)
        yield Case(op, (0, 3, 4, 4), rule="reference", options=options, quick=True)
        yield Case(op, (2, 3, 9, 9), FLOAT, "contiguous", "nan", "reference", options, quick=True)
    for op, norm, dtype in product(ops, ("linf", "l2"), DTYPES):
        options = {"eps": 0.0, "norm": norm} | ({} if op == "clamp_project" else {"alpha": 0.1})
        yield Case(op, (2, 3, 9, 11), dtype, rule="unchanged", options=options, quick=True)
        if op != "clamp_project":
            options = {"eps": 0.1, "alpha": 0.1, "norm": norm}
            yield Case(
                op, (2, 3, 9, 11), dtype, values="zero", rule="unchanged", options=options,
                quick=dtype == FLOAT,
            )  # fmt: skip
    for op, levels, dtype in product(ops[:2], (1, 4), DTYPES):
        options = {"eps": levels / 255} | ({} if op == "clamp_project" else {"alpha": levels / 128})
        yield Case(op, (2, 3, 40, 41), dtype, "contiguous", "levels", "budget", options, quick=True)


def _images() -> Iterator[Case]:
    shapes = ((2, 3, 33, 47), (1, 3, 1, 1), (3, 3, 64, 64))
    for dtype, shape, bgr, last in product(DTYPES, shapes, (True, False), (False, True)):
        memory_format = torch.channels_last if last else torch.contiguous_format
        options = {"bgr": bgr, "dtype": dtype, "memory_format": memory_format}
        yield Case(
            "image_pack", shape, dtype, rule="reference", options=options, quick=shape == shapes[0]
        )
    for dtype, layout, eps in product(DTYPES, LAYOUTS, ("none", None, 2.5 / 255, "per sample")):
        options = {"bgr": layout != "gaps", "eps": eps}
        quick = dtype in (FLOAT, HALF) and layout in BOTH_ORDERS
        yield Case(
            "image_unpack", (2, 3, 33, 47), dtype, layout, rule="reference", options=options,
            quick=quick,
        )  # fmt: skip
        yield Case(
            "image_unpack", (2, 3, 33, 47), dtype, layout, "halves", "reference", options,
            quick=quick,
        )  # fmt: skip
    for op in ("image_pack", "image_unpack"):
        yield Case(op, (0, 3, 4, 4), rule="reference", quick=True)


def cases(quick: bool = False) -> list[Case]:
    """All cases, or the few hundred small ones that a processor does in seconds."""
    found = [*_kl(), *_masks(), *_perturbations(), *_images()]
    return [case for case in found if case.quick] if quick else found
