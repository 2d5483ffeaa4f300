"""Calls of the operators of channelwise_kl: their truth, and the bytes that they have to move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.cases import DOUBLE, FLOAT, Call, by_size, drawn, empty, size_of
from ansm_fast.ops.channelwise_kl import reference
from ansm_fast.ops.channelwise_kl.options import REDUCTIONS
from ansm_fast.ops.dtypes import accumulation_dtype

NONE, SUM, BATCHMEAN, CHANNELMEAN, MEAN = range(len(REDUCTIONS))
SECTOR = 32  # bytes: the least that memory gives


# --- truth ----------------------------------------------------------------------------------------


def truth(
    input: Tensor, target: Tensor, temperature: float, alpha: float, input_first: bool,
    reduction: int, grad_input: bool, grad_target: bool, grad_output: Tensor | None = None,
) -> list[Tensor]:  # fmt: skip
    leaves = [x.detach().requires_grad_() for x in (input, target)]
    loss = reference.channelwise_kl(
        *leaves, temperature=temperature, alpha=alpha, reduction=REDUCTIONS[reduction],
        direction="input_target" if input_first else "target_input",
    )  # fmt: skip
    gradients = torch.autograd.grad(loss.sum(), leaves)
    if grad_output is not None:
        loss, gradients = loss.new_empty(0), tuple(g * grad_output for g in gradients)
    wanted = zip(gradients, (grad_input, grad_target), strict=True)
    return [loss.detach(), *(g if w else g.new_empty(0) for g, w in wanted)]


def layers_truth(
    input: list[Tensor], target: list[Tensor], temperature: float, alpha: float,
    input_first: bool, reduction: int, grad_input: list[bool], grad_target: list[bool],
    grad_output: list[Tensor],
) -> list[Tensor]:  # fmt: skip
    rest = (temperature, alpha, input_first, reduction)
    factors = grad_output or (None,) * len(input)
    each = [
        truth(a, b, *rest, first, second, factor)
        for a, b, first, second, factor in zip(
            input, target, grad_input, grad_target, factors, strict=True
        )
    ]
    share = 1 if reduction == NONE else len(input)
    return [result[k] / share for k in range(3) for result in each]


def backward_truth(grad_output: Tensor, gradient: Tensor) -> list[Tensor]:
    shape = grad_output.shape + (1,) * (gradient.dim() - grad_output.dim())
    return [gradient * (grad_output if grad_output.dim() == 0 else grad_output.reshape(shape))]


def scale_truth(gradient: Tensor, factor: Tensor) -> list[Tensor]:
    return backward_truth(factor, gradient)


# --- calls ----------------------------------------------------------------------------------------


def minimum(input: Tensor, alpha: float, reduction: int, grads: tuple[bool, bool]) -> int:
    """Rows on chip: both inputs read and each gradient written once. Longer ones: both inputs
    read for the sums (twice for alpha > 0) and for the gradients, and the chunks' sums between."""
    from ansm_fast.ops.channelwise_kl.triton import PARTS, STATISTICS, tiles_of

    size = accumulation_dtype(input.dtype).itemsize
    tiles = tiles_of(input, input.dtype == DOUBLE, alpha > 0)
    tensor, row, wanted = size_of(input), tiles.rows * size, sum(grads)
    total = wanted * tensor + 2 * tensor + row  # KL of rows
    if reduction != NONE:
        total += row + size
    if tiles.chunks == 1:
        return total
    part = row * tiles.chunks
    total += 2 * PARTS * part + 5 * row
    if alpha > 0:
        total += 2 * tensor + 4 * row + 3 * part + 3 * part + 3 * row
    if wanted:
        used = STATISTICS if alpha > 0 else 4 + grads[0]
        if alpha > 0:
            used = 4 + wanted
        elif not grads[1]:
            used = 4
        total += 2 * tensor + used * row
    return total


def calls(dtype: torch.dtype, layout: str) -> Iterator[Call]:
    op = "channelwise_kl"
    shapes = {
        "contiguous": [(2, 4, 24, 28), (3, 8, 17, 15), (1, 2, 96, 100)],
        "channels_last": [(1, 40, 12, 20), (2, 17, 7, 9), (1, 36, 20, 31)],
    }[layout]
    options = [
        (1.0, 0.0, True, MEAN, True, True), (4.0, 0.0, False, NONE, True, False),
        (0.5, 0.1, True, BATCHMEAN, True, True),
    ]  # fmt: skip
    for shape in shapes:
        for option in options:
            pair = [2 * drawn(shape, dtype, layout) for _ in range(2)]
            _, alpha, input_first, reduction, *grads = option
            # The caller's second is the kernels' first where the direction is the other one.
            first, second = grads if input_first else grads[::-1]
            least = minimum(pair[0], alpha, reduction, (first, second))
            label = f"{by_size(shape)} alpha={alpha:g}"
            yield Call(op, label, (*pair, *option), truth, least)
            # As the backward of float16 calls it: gradients alone, by a factor on the device.
            if option != options[0] and shape != shapes[0]:
                continue
            factor = torch.tensor(3072.0, dtype=accumulation_dtype(dtype))
            yield Call(op, f"{label} times a factor", (*pair, *option, factor), truth)
    pairs = [[drawn((2, c, 24, 28), dtype, layout) for c in (3, 5)] for _ in range(2)]
    flags = ([True, False], [True, True])
    least = sum(
        minimum(pairs[0][i], 0.0, CHANNELMEAN, (flags[0][i], flags[1][i])) for i in range(2)
    )
    arguments = (*pairs, 1.0, 0.0, True, CHANNELMEAN, *flags)
    yield Call("channelwise_kl_layers", "2 layers", (*arguments, []), layers_truth, least)
    factors = [torch.tensor(2.0), torch.tensor(-0.25, dtype=DOUBLE)]
    label = "2 layers times factors"
    yield Call("channelwise_kl_layers", label, (*arguments, factors), layers_truth)
    gradient = drawn((2, 20, 16, 12), dtype, layout)
    size = size_of(gradient)
    for label, weights in (("uniform", torch.tensor(3.0)), ("per row", torch.randn(2, 20))):
        least = 2 * size + size_of(weights)
        yield Call("channelwise_kl_backward", label, (weights, gradient), backward_truth, least)
    for value, least in ((3.0, 2 * size + 4), (1.0, SECTOR)):
        yield Call(
            "channelwise_kl_scale_", f"times {value:g}", (gradient.clone(), torch.tensor(value)),
            scale_truth, least, (0,),
        )  # fmt: skip


# Rows in a warp's registers, in a block's, in chunks; channels-last maps in chunks: an even and an
# odd shape, whether rows are cut into chunks, and the layout.
MAPS = (
    ("warp", (2, 64, 16, 16), (2, 67, 15, 17), False, "contiguous"),
    ("block", (1, 6, 64, 64), (1, 7, 63, 65), False, "contiguous"),
    ("split", (1, 2, 160, 160), (1, 2, 163, 161), True, "contiguous"),
    ("columns", (1, 64, 40, 40), (1, 67, 41, 39), True, "channels_last"),
)


def traffic(dtype: torch.dtype) -> Iterator[Call]:
    op = "channelwise_kl"
    for route, even, odd, chunks, layout in MAPS:
        for shape in (even, odd):
            name, aligned = f"{route} {by_size(shape)}", shape == even
            for alpha, grads in ((0.0, (True, False)), (0.0, (True, True)), (0.1, (True, False))):
                pair = [drawn(shape, dtype, layout) for _ in range(2)]
                size, wanted = size_of(pair[0]), sum(grads)
                least = (2 + wanted) * size
                if chunks:
                    least += 2 * size + (2 * size if alpha else 0)
                label = f"{name} alpha={alpha:g} gradients={wanted}"
                arguments = (*pair, 1.0, alpha, True, MEAN, *grads)
                yield Call(op, label, arguments, minimum=least, aligned=aligned)
            # The backward of float16: both inputs read, and both gradients written, at once.
            pair = [drawn(shape, dtype, layout) for _ in range(2)]
            factored = (*pair, 1.0, 0.0, True, MEAN, True, True, torch.tensor(2.0))
            least = (6 if chunks else 4) * size_of(pair[0])
            label = f"{name} times a factor"
            yield Call(op, label, factored, minimum=least, aligned=aligned)
    for aligned in (True, False):
        shapes = [even if aligned else odd for _, even, odd, *_ in MAPS]
        inputs, targets = ([drawn(shape, dtype) for shape in shapes[:2]] for _ in range(2))
        yield Call(
            "channelwise_kl_layers", "a warp's rows and a block's",
            (inputs, targets, 1.0, 0.0, True, MEAN, [True, True], [False, False], []),
            minimum=3 * size_of(*inputs), aligned=aligned,
        )  # fmt: skip
        for layout in ("contiguous", "channels_last"):
            gradient, factors = drawn(shapes[3], dtype, layout), torch.rand(shapes[3][:2])
            least = 2 * size_of(gradient)
            yield Call(
                "channelwise_kl_backward", layout, (factors, gradient),
                minimum=least, aligned=aligned,
            )  # fmt: skip
            op, scaled = "channelwise_kl_scale_", (gradient.clone(), torch.tensor(2.0))
            yield Call(op, layout, scaled, minimum=least, aligned=aligned)
            # A grad_output of 1: its own sector is all that is touched.
            scaled = (gradient, torch.tensor(1.0))
            yield Call(op, f"{layout} times 1", scaled, minimum=SECTOR, aligned=aligned)


def opchecks(layout: str) -> Iterator[Call]:
    def draw(order: str = layout) -> Tensor:
        return drawn((2, 3, 4, 5), FLOAT, order)

    a, b, last = (draw(order).requires_grad_() for order in (layout, layout, layout))
    plain, other, third = draw(), draw("contiguous"), draw("contiguous")
    given: list[tuple[str, tuple[Any, ...]]] = [
        ("channelwise_kl", (a, b, 1.0, 0.0, True, MEAN, True, True)),
        ("channelwise_kl", (a, b.detach(), 2.0, 0.1, False, NONE, True, False)),
        ("channelwise_kl", (plain, other, 1.0, 0.0, True, MEAN, True, True, torch.tensor(2.0))),
        (
            "channelwise_kl_layers",
            ([a, b], [other, last], 1.0, 0.0, True, MEAN, [True, True], [False, True], []),
        ),
        (
            "channelwise_kl_layers",
            (
                [plain, other], [third, draw()], 1.0, 0.0, True, MEAN, [True, True], [False, True],
                [torch.tensor(2.0), torch.tensor(0.5, dtype=DOUBLE)],
            ),
        ),
        ("channelwise_kl_backward", (torch.tensor(2.0), plain)),
        ("channelwise_kl_backward", (torch.rand(2, 3), plain)),
        ("channelwise_kl_scale_", (plain.clone(), torch.tensor(2.0))),
    ]  # fmt: skip
    for op, arguments in given:
        yield Call(op, layout, arguments)


def compiled(dtype: torch.dtype, brief: bool) -> Iterator[Call]:
    """Rows of several lengths, the longest that one tile holds among them, and split ones."""
    longest = (64, 64) if dtype == DOUBLE else (64, 128)
    sizes = [longest, (128, 128), (64, 64), (64, 32), (16, 16), (7, 7), (61, 67)]
    for layout in ("contiguous", "channels_last"):
        last = layout == "channels_last"
        for size in sizes[: 2 if brief else None]:
            for alpha, grads in (
                (0.0, (True, False)), (0.0, (False, True)), (0.1, (True, True)),
                (0.0, (False, False)),
            ):  # fmt: skip
                if grads != (True, False) and size not in sizes[:4]:
                    continue
                maps = [empty((1, 64, *size), dtype, layout) for _ in range(2)]
                which = "".join("ft"[k] for k in range(2) if grads[k]) or "none"
                label = f"64x{by_size(size)} {layout} alpha={alpha:g} gradients={which}"
                yield Call(
                    "channelwise_kl", label, (*maps, 1.0, alpha, True, MEAN, *grads),
                    aligned=last or size[0] % 2 == 0,
                )  # fmt: skip
        gradient = empty((1, 64, 64, 64), dtype, layout)
        yield Call("channelwise_kl_scale_", f"uniform {layout}", (gradient, torch.empty(())))
        per_row = (torch.empty(1, 64), gradient)
        yield Call("channelwise_kl_backward", f"per row {layout}", per_row)
