"""Calls of the operators of dual_mask: their truth, and the bytes that they have to move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.cases import DOUBLE, FLOAT, Call, by_size, drawn, in_double, laid_out, size_of
from ansm_fast.ops.dtypes import accumulation_dtype
from ansm_fast.ops.dual_mask import reference
from ansm_fast.ops.mask_checks import REDUCTIONS
from ansm_fast.ops.mask_values import mask_values

NONE, SUM, MEAN = range(len(REDUCTIONS))
# Of both branches, BCE, Dice, of positive pixels; the Dice term's smooth.
WEIGHTS = (0.7, 1.3, 0.9, 1.1, 2.5, 1.0)
Arguments = tuple[Any, ...]


# --- truth ----------------------------------------------------------------------------------------


def branches_of(*tensors: Any) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """(logits, mask, target) of each branch."""
    logits, logits_orig, mask, mask_orig, target, target_orig = tensors
    yield logits, mask, target
    if logits_orig is not None:
        yield logits_orig, mask if mask_orig is None else mask_orig, target_orig


def truth(*arguments: Any) -> list[Tensor]:
    *tensors, pos_weight, weights, ignore_index, reduction = arguments
    *factors, bce_weight, dice_weight, positive, smooth = weights
    losses, leaves, components, sums = [], [], [], []
    for z, mask, t in branches_of(*tensors):
        bce, dice = reference.branch_terms(
            z, mask, bce_target=t, smooth=smooth, ignore_index=ignore_index,
            pos_weight=positive if pos_weight is None else pos_weight,
        )  # fmt: skip
        y, p = mask.flatten(1).double(), z.flatten(1).sigmoid()
        valid = torch.ones_like(y) if ignore_index is None else (y != ignore_index).double()
        y = mask_values(mask, DOUBLE).flatten(1)
        p, y = (torch.where(valid > 0, x, 0.0) for x in (p, y))
        parts = (bce * valid.sum(1), (p * y).sum(1), p.sum(1), y.sum(1), valid.sum(1))
        sums.append(torch.stack(parts, 1))
        terms = (bce_weight, dice_weight), (bce, dice)
        losses.append(reference.weighted_sum(*terms, z))
        leaves.append(z)
        components += [bce.detach(), dice.detach()]
    total = reference.weighted_sum(tuple(factors[: len(losses)]), tuple(losses), *leaves)
    rows = torch.stack([total, *components])
    rows = {NONE: rows, SUM: rows.sum(1), MEAN: rows.mean(1)}[reduction]
    return [rows[0], rows[1:], torch.stack(sums)]


def backward_truth(grad_output: Tensor, sums: Tensor, *arguments: Any) -> list[Tensor]:
    *given, want, want_orig = arguments
    leaves = [None if z is None else z.detach().requires_grad_() for z in given[:2]]
    loss = truth(*leaves, *given[2:])[0]
    gradients = torch.autograd.grad(
        (loss * grad_output).sum(), [z for z in leaves if z is not None]
    )
    found = [*gradients, gradients[0].new_empty(0)][:2]
    return [g if w else g.new_empty(0) for g, w in zip(found, (want, want_orig), strict=True)]


def left_out_truth(grad_output: Tensor, *arguments: Any) -> list[Tensor]:
    """As for a sound mask: the gradient is 0 where ``grad_output`` is."""
    *before, mask = arguments[:4]
    return backward_truth(grad_output, *before, mask.clamp(0, 1), *arguments[4:])


# --- calls ----------------------------------------------------------------------------------------


def odd_masks(dtype: torch.dtype, layout: str) -> dict[str, Arguments]:
    """Masks of other values than 0 and 1, and what a weight of 0 or an ignored pixel hides."""
    shape = (3, 2, 37, 31)
    z, z_orig, hidden = (torch.randn(shape).to(dtype) for _ in range(3))
    labels = (torch.rand(shape) > 0.5).byte() * 255
    labels[0], labels[1], labels[2, 0, 5] = 7, 0, 7  # 0: all is ignored; 1: nothing is forged
    hidden[2, 0, 5] = torch.nan  # where it is ignored
    soft, spoilt, wrong = (torch.rand(shape).to(dtype) for _ in range(3))
    spoilt[1, 0, 4, 4], wrong[2, 1, 3, 3] = 255.0, -2.0
    spoilt[0, 0, 0, :4] = torch.tensor([0.0, 1 + 2**-7, -0.0, -(2**-8)])  # rounded, if at all
    infinite = z.clone()
    infinite[0, 1, 2, 3], infinite[1, 1, 2, 3] = torch.inf, torch.nan
    z, z_orig, hidden, infinite, labels, soft, spoilt, wrong = (
        laid_out(x, layout) for x in (z, z_orig, hidden, infinite, labels, soft, spoilt, wrong)
    )
    negative = torch.tensor([-1.0], dtype=DOUBLE)
    ones, no_bce, no_branch = (1.0, 1.0, 1.0, 1.0, 1.0, 0.0), list(WEIGHTS), list(WEIGHTS)
    no_bce[2], no_branch[0], no_branch[3] = 0.0, 0.0, 0.0
    return {
        "0, 255 and ignored": (hidden, None, labels, None, None, None, None, ones, 7, NONE),
        "no mask": (z, z_orig, spoilt, None, None, None, None, WEIGHTS, None, NONE),
        "no BCE": (z, z_orig, soft, labels, None, wrong, None, tuple(no_bce), 7, NONE),
        "no target": (z, z_orig, soft, None, wrong, None, None, WEIGHTS, None, NONE),
        "negative weight": (z, None, soft, None, None, None, negative, WEIGHTS, None, NONE),
        "no branch": (infinite, z_orig, soft, None, None, None, None, tuple(no_branch), None, MEAN),
    }


def branches(arguments: Arguments) -> int:
    return 1 if arguments[1] is None else 2


def minimum(arguments: Arguments) -> int:
    """Each tensor read once; the parts' sums and what follows from them, written and read."""
    logits, reduction = arguments[0], arguments[-1]
    size, batch = accumulation_dtype(logits.dtype).itemsize, len(logits)
    pieces = -(-logits.numel() // batch // (1024 if logits.dtype == DOUBLE else 2048))
    parts = branches(arguments) * 5 * batch * pieces * size
    rows = 1 + 2 * branches(arguments)
    total = size_of(*arguments[:7]) + 2 * parts + branches(arguments) * 5 * batch * 8
    if reduction == NONE:
        return total + rows * batch * size
    return total + rows * batch * 8 + rows * (8 * batch + size)


def backward_minimum(grad_output: Tensor, arguments: Arguments) -> int:
    """Each tensor read once more, the gradients written; the sum of BCE is not needed."""
    total = size_of(*arguments[:7], grad_output, *arguments[:2])
    return total + branches(arguments) * len(arguments[0]) * 4 * 8


def calls(dtype: torch.dtype, layout: str) -> Iterator[Call]:
    for shape in ((2, 1, 48, 64), (3, 2, 37, 31)):
        z, z_orig, soft, blend = (
            laid_out((torch.randn(shape) * 4).to(dtype), layout) for _ in range(4)
        )
        soft, blend = soft.sigmoid(), blend.sigmoid()
        hard = laid_out(torch.rand(shape) > 0.5, layout)
        ignored = laid_out((torch.rand(shape) * 3).byte(), layout)
        weight = torch.tensor([3.0], dtype=DOUBLE)
        odd = odd_masks(dtype, layout) if shape[0] == 3 else {}
        given = {
            "shared mask": (z, z_orig, hard, None, None, None, None, WEIGHTS, None, MEAN),
            "one branch": (z, None, ignored, None, soft, None, weight, WEIGHTS, 2, NONE),
            "everything": (z, z_orig, soft, hard, None, blend, None, WEIGHTS, None, SUM),
            **odd,
        }  # fmt: skip
        for name, arguments in given.items():
            label = f"{by_size(shape)} {name}"
            counted = name not in odd  # what a weight of 0 leaves out is not read
            least = minimum(arguments) if counted else None
            yield Call("dual_mask", label, arguments, truth, least)
            saved = truth(*in_double(arguments))[2]
            grad = torch.randn(shape[0]) if arguments[-1] == NONE else torch.tensor(1.7)
            wanted = (True, branches(arguments) == 2)
            least = backward_minimum(grad, arguments) if counted else None
            backward = (grad, saved, *arguments, *wanted)
            yield Call("dual_mask_backward", label, backward, backward_truth, least)
            if name == "no mask":  # its loss is NaN, but nothing follows from it
                grad = grad.clone()
                grad[1] = 0.0
                backward = (grad, saved, *arguments, *wanted)
                yield Call("dual_mask_backward", f"{label}, left out", backward, left_out_truth)


def traffic(dtype: torch.dtype) -> Iterator[Call]:
    for shape in ((2, 1, 128, 128), (2, 1, 127, 129)):
        adv, orig = (drawn(shape, dtype) for _ in range(2))
        hard, soft = torch.rand(shape) > 0.5, torch.rand(shape).to(dtype)
        aligned = shape[-1] % 8 == 0
        for label, target in (("bool", None), ("soft target", soft)):
            arguments = (adv, orig, hard, None, target, None, None, (1.0,) * 6, None, MEAN)
            read = size_of(adv, orig, hard, target)
            yield Call("dual_mask", label, arguments, minimum=read, aligned=aligned)
            sums = torch.full((2, 2, 5), 9.0, dtype=DOUBLE)
            yield Call(
                "dual_mask_backward", label, (torch.tensor(1.5), sums, *arguments, True, True),
                minimum=read + size_of(adv, orig), aligned=aligned,
            )  # fmt: skip


def opchecks(layout: str) -> Iterator[Call]:
    shape = (2, 3, 4, 5)
    a, b = (drawn(shape, FLOAT, layout).requires_grad_() for _ in range(2))
    plain, mask = drawn(shape, FLOAT, layout), torch.rand(shape) > 0.5
    number, ones = torch.ones(1, dtype=DOUBLE), (1.0,) * 6
    two = (mask, None, None, None, None, ones, None, MEAN)
    one = (a, None, mask, None, torch.rand(shape), None, number, ones, 1, NONE)
    sums = torch.rand(2, 2, 5, dtype=DOUBLE)
    yield Call("dual_mask", layout, (a, b, *two))
    yield Call("dual_mask", layout, one)
    backward = (torch.tensor(1.0), sums, plain, plain, *two, True, True)
    yield Call("dual_mask_backward", layout, backward)


def compiled(dtype: torch.dtype, brief: bool) -> Iterator[Call]:
    weights, number = (1.0,) * 6, torch.empty(1, dtype=DOUBLE)
    for side in (512,) if brief else (512, 511):
        shape, aligned = (2, 1, side, side), side % 2 == 0
        z, z_orig, soft, blend = (torch.empty(shape, dtype=dtype) for _ in range(4))
        hard, levels = torch.empty(shape, dtype=torch.bool), torch.empty(shape, dtype=torch.uint8)
        given = {
            "shared mask": (z, z_orig, hard, None, None, None, None, weights, None, MEAN),
            "one branch": (z, None, levels, None, soft, None, number, weights, 2, NONE),
            "everything": (z, z_orig, soft, levels, soft, blend, number, weights, 1, SUM),
        }
        for name, arguments in given.items():
            label, both = f"{side}x{side} {name}", branches(arguments) == 2
            yield Call("dual_mask", label, arguments, aligned=aligned)
            sums = torch.empty((branches(arguments), 2, 5), dtype=DOUBLE)
            grad = torch.empty(2 if arguments[-1] == NONE else ())
            backward = (grad, sums, *arguments, True, both)
            yield Call("dual_mask_backward", label, backward, aligned=aligned)
