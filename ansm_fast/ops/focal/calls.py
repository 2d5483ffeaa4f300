"""Calls of the operators of focal: their truth, and the bytes that they have to move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.cases import (
    BRAIN,
    DOUBLE,
    FLOAT,
    Call,
    by_size,
    drawn,
    laid_out,
    size_of,
    with_end,
)
from ansm_fast.ops.dtypes import accumulation_dtype
from ansm_fast.ops.focal import reference
from ansm_fast.ops.mask_checks import REDUCTIONS

NONE, SUM, MEAN = range(len(REDUCTIONS))
PLAIN = (0.25, 2.0, 1.0)  # alpha, gamma, pos_weight
Arguments = tuple[Any, ...]


# --- truth ----------------------------------------------------------------------------------------


def loss_of(
    logits: Tensor, mask: Tensor, pos_weight: Tensor | None, options: tuple[float, ...],
    ignore_index: int | None, reduction: int,
) -> Tensor:  # fmt: skip
    alpha, gamma, positive = options
    return reference.focal_loss(
        logits, mask, alpha=alpha, gamma=gamma, ignore_index=ignore_index,
        pos_weight=positive if pos_weight is None else pos_weight, reduction=REDUCTIONS[reduction],
    )  # fmt: skip


def truth(*arguments: Any) -> list[Tensor]:
    *given, _ = arguments
    _, mask, _, _, ignore_index, reduction = given
    loss = loss_of(*given)
    if reduction == NONE:
        return [loss, loss.new_empty(0, dtype=DOUBLE)]
    valid = mask == mask if ignore_index is None else mask != ignore_index
    return [loss, (valid | mask.isnan()).sum().double().reshape(1)]


def backward_truth(grad_output: Tensor, count: Tensor, *arguments: Any) -> list[Tensor]:
    leaf = arguments[0].detach().requires_grad_()
    loss = loss_of(leaf, *arguments[1:])
    gradient = torch.autograd.grad((loss * grad_output).sum(), leaf)[0]
    if grad_output.dim():  # where nothing comes from the loss, nothing comes back, even of NaN
        gradient = torch.where(grad_output == 0, 0.0, gradient)
    return [gradient]


# --- calls ----------------------------------------------------------------------------------------


def minimum(arguments: Arguments) -> int:
    """Each tensor read once, and the losses written, or parts written and read, loss and count."""
    logits, mask, pos_weight, *_, reduction, dtype = arguments
    read = size_of(logits, mask, pos_weight)
    if reduction == NONE:
        return read + logits.numel() * dtype.itemsize
    programs = -(-logits.numel() // (1024 if logits.dtype == DOUBLE else 2048))
    return read + 2 * 16 * programs + accumulation_dtype(logits.dtype).itemsize + 8


def backward_minimum(grad_output: Tensor, count: Tensor, arguments: Arguments) -> int:
    logits, mask, pos_weight, *_, reduction = arguments
    number = count if reduction == MEAN else None
    return size_of(logits, mask, pos_weight, grad_output, number, logits)


def given_arguments(dtype: torch.dtype, layout: str, shape: tuple[int, ...]) -> dict[str, Any]:
    z, hidden, soft, spoilt = (laid_out((torch.randn(shape) * 4).to(dtype), layout) for _ in "abcd")
    soft, spoilt = soft.sigmoid(), spoilt.sigmoid()
    hidden[0, 0, 2, 3], hidden[-1, -1, -1, -1] = torch.nan, torch.inf
    # Labels: any but 0 is forged; what isn't finite is ignored.
    labels = laid_out((torch.rand(shape) > 0.5).byte() * 255, layout)
    labels[:, :, 1], labels[0, 0, 2, 3], labels[-1, -1, -1, -1] = 7, 7, 7
    spoilt[0, 0, 0, :4] = torch.tensor([255.0, torch.nan, -2.0, 1 + 2**-7])  # the last is rounded
    hard = laid_out(torch.rand(shape) > 0.5, layout)
    weight, negative = (torch.tensor([w], dtype=DOUBLE) for w in (3.0, -1.0))
    return {
        "bool mask": (z, hard, None, PLAIN, None, MEAN, dtype),
        "ignored": (hidden, labels, weight, (0.4, 2.0, 1.0), 7, NONE, FLOAT),
        "ignored, soft": (z, soft.round() * 2, None, (0.4, 1.5, 2.5), 2, MEAN, dtype),
        "no modulation": (z, soft, None, (-1.0, 0.0, 2.5), None, SUM, dtype),
        "a root": (z, soft, None, (-1.0, 0.5, 1.0), None, NONE, dtype),
        "no mask": (z, spoilt, None, PLAIN, None, NONE, dtype),
        "negative weight": (z, hard, negative, PLAIN, None, SUM, dtype),
    }


def calls(dtype: torch.dtype, layout: str) -> Iterator[Call]:
    for shape in ((2, 1, 48, 64), (3, 2, 37, 31)):
        for name, arguments in given_arguments(dtype, layout, shape).items():
            label = f"{by_size(shape)} {name}"
            yield Call("focal", label, arguments, truth, minimum(arguments))
            *given, reduction, _ = arguments
            count = torch.empty(0, dtype=DOUBLE)
            if reduction != NONE:
                count = truth(*arguments)[1]
            grad = torch.tensor(1.7)
            if reduction == NONE:
                grad = laid_out(
                    torch.randn(shape).to(FLOAT if name == "ignored" else dtype), layout
                )
                grad[0, 0, 0, 0] = 0.0
            arguments = (*given, reduction)
            least = backward_minimum(grad, count, arguments)
            backward = (grad, count, *arguments)
            yield Call("focal_backward", label, backward, backward_truth, least)


def traffic(dtype: torch.dtype) -> Iterator[Call]:
    for shape in ((2, 1, 128, 128), (2, 1, 127, 129)):
        logits, hard = drawn(shape, dtype), torch.rand(shape) > 0.5
        soft = torch.rand(shape).to(dtype)
        aligned = shape[-1] % 8 == 0
        for label, mask, reduction in (("bool", hard, MEAN), ("soft, each", soft, NONE)):
            arguments = (logits, mask, None, PLAIN, None, reduction)
            each = reduction == NONE
            least = size_of(logits, mask) + each * size_of(logits)
            yield Call("focal", label, (*arguments, dtype), minimum=least, aligned=aligned)
            grad = drawn(shape, dtype) if each else torch.tensor(1.5)
            count = torch.full((0 if each else 1,), 9.0, dtype=DOUBLE)
            yield Call(
                "focal_backward", label, (grad, count, *arguments),
                minimum=least + size_of(logits), aligned=aligned,
            )  # fmt: skip


def large(elements: int) -> Iterator[Call]:
    logits = with_end(0.0, 1, 1, elements)
    mask = with_end(1, 1, 1, elements, dtype=torch.uint8)
    arguments = (logits, mask, None, (-1.0, 2.0, 1.0), None)
    yield Call("focal", "one sample", (*arguments, MEAN, BRAIN))
    count = torch.tensor([2.0], dtype=DOUBLE)
    # Of a logit of 0: -(1 - p)^2 (2 p log 2 + 1 - p) / 2.
    slope = -0.25 * (2 * 0.5 * 0.6931472 + 0.5) / 2
    yield Call(
        "focal_backward", "one sample", (torch.tensor(1.0), count, *arguments, MEAN),
        last=lambda: torch.full((8,), slope),
    )  # fmt: skip


def opchecks(layout: str) -> Iterator[Call]:
    shape = (2, 3, 4, 5)
    logits, mask = drawn(shape, FLOAT, layout), torch.rand(shape) > 0.5
    half, grad = logits.half(), drawn(shape, FLOAT, "contiguous")
    none, number = torch.empty(0, dtype=DOUBLE), torch.ones(1, dtype=DOUBLE)
    mean, each = (mask, None, PLAIN, None, MEAN), (mask, number, PLAIN, 1, NONE)
    leaf, half_leaf = (x.clone().requires_grad_() for x in (logits, half))
    yield Call("focal", layout, (leaf, *mean, FLOAT))
    yield Call("focal", f"{layout} each", (half_leaf, *each, FLOAT))
    yield Call("focal_backward", layout, (torch.tensor(1.0), number, logits, *mean))
    yield Call("focal_backward", f"{layout} each", (grad, none, half, *each))


def compiled(dtype: torch.dtype, brief: bool) -> Iterator[Call]:
    number, none = torch.empty(1, dtype=DOUBLE), torch.empty(0, dtype=DOUBLE)
    for side in (512,) if brief else (512, 511):
        shape, aligned = (2, 1, side, side), side % 2 == 0
        z, soft, grad = (torch.empty(shape, dtype=dtype) for _ in range(3))
        hard, levels = torch.empty(shape, dtype=torch.bool), torch.empty(shape, dtype=torch.uint8)
        given = {
            "bool mask": (z, hard, None, PLAIN, None, MEAN),
            "each": (z, levels, number, (0.25, 1.5, 1.0), 7, NONE),
            "no modulation": (z, soft, None, (-1.0, 0.0, 1.0), None, SUM),
        }
        for name, arguments in given.items():
            label, each = f"{side}x{side} {name}", arguments[-1] == NONE
            yield Call("focal", label, (*arguments, dtype), aligned=aligned)
            factors = (grad, none) if each else (torch.empty(()), number)
            yield Call("focal_backward", label, (*factors, *arguments), aligned=aligned)
