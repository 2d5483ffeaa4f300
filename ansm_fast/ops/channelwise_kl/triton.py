"""channelwise_kl: the shapes of its launches. The arithmetic: kernels/channelwise_kl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ansm_fast.kernels.channelwise_kl.triton_kernel import (
    PARTS,
    STATISTICS,
    combine_kernel,
    gradient_kernel,
    parts_kernel,
    rows_kernel,
    scale_kernel,
    smoothed_combine_kernel,
    smoothed_parts_kernel,
)
from ansm_fast.kernels.common.triton_numbers import sum_kernel, words
from ansm_fast.ops.channelwise_kl.options import REDUCTIONS
from ansm_fast.ops.layout import empty_in_order
from ansm_fast.ops.triton_launch import (
    cdiv,
    check,
    check_floating,
    check_shape,
    define,
    elements_of_sample,
    in_order,
    is_double,
    lies_channels_last,
    nothing,
    smallest,
    wrap_triton,
)

NONE, SUM, BATCHMEAN, CHANNELMEAN, MEAN = range(len(REDUCTIONS))
POWERS = tuple(16 << k for k in range(10))  # 16 to 8192
SPAN = 16384  # rows that one program adds up


class Tiles(NamedTuple):
    """How a program's tile of R rows of BLOCK pixels covers the maps."""

    rows: int
    channels: int
    pixels: int
    last: bool
    R: int
    block: int
    warps: int

    @property
    def blocks(self) -> int:
        if self.last:
            return self.rows // self.channels * cdiv(self.channels, self.R)
        return cdiv(self.rows, self.R)

    @property
    def chunks(self) -> int:
        return cdiv(self.pixels, self.block)


def tiles_of(like: Tensor, double: bool, smoothed: bool = False) -> Tiles:
    """Tiles that hold whole rows where those fit, else chunks: as many elements as registers hold
    without spilling. A float64 takes two of them, and alpha > 0 keeps more numbers for each."""
    channels, pixels = like.shape[1], elements_of_sample(like)
    last, whole, chunk = lies_channels_last(like), 8192, 4096
    if double:
        whole, chunk = whole // 2, chunk // 2
    if smoothed:
        whole, chunk = whole // 2, min(chunk, whole // 2)
    if channels:
        pixels = pixels // channels
    if last:
        R = smallest((4, 8, 16, 32, 64) if like.element_size() == 2 else (4, 8, 16, 32), channels)
    else:
        R = 1
    block = smallest(POWERS, pixels)
    if pixels * R > whole:
        block = (whole if last else chunk) // R
    if not last:
        R = max(1, min(64, 2048 // block))
    warps = max(1, min(16, R * block // (256 if double else 512)))
    return Tiles(like.shape[0] * channels, channels, pixels, last, R, block, warps)


def _rows(
    first: Tensor,
    second: Tensor,
    grad_first: Tensor | None,
    grad_second: Tensor | None,
    kl: Tensor,
    factor: Tensor | None,
    divisor: int,
    inverse_temperature: float,
    alpha: float,
) -> None:
    """KL of rows into ``kl``, and gradients of their sum over ``divisor``, times ``factor``."""
    double = is_double(first, second)
    tiles = tiles_of(first, double, alpha > 0)
    rows, channels, pixels = tiles.rows, tiles.channels, tiles.pixels
    to_first = first if grad_first is None else grad_first
    to_second = second if grad_second is None else grad_second
    scale, smoothing = words(inverse_temperature), words(alpha)
    wanted = {"GRAD_FIRST": grad_first is not None, "GRAD_SECOND": grad_second is not None}
    factors, times = kl if factor is None else factor, {"FACTOR": factor is not None}
    tile = {"DOUBLE": double, "LAST": tiles.last, "R": tiles.R, "BLOCK": tiles.block}
    if tiles.chunks == 1:
        wrap_triton(rows_kernel)[(tiles.blocks,)](
            first, second, to_first, to_second, kl, factors, rows, channels, pixels, divisor,
            *scale, *smoothing, SMOOTHED=alpha > 0, **wanted, **times, **tile,
            num_warps=tiles.warps,
        )  # fmt: skip
        return
    parts = kl.new_empty((PARTS, tiles.chunks, rows))
    statistics = kl.new_empty((STATISTICS, rows))
    shape = (rows, channels, pixels, tiles.blocks, tiles.chunks)
    programs = (tiles.blocks * tiles.chunks,)
    combined = {"DOUBLE": double, "R": 16, "CHUNKS": 32, "num_warps": 4}
    wrap_triton(parts_kernel)[programs](
        first, second, parts, *shape, *scale, **tile, num_warps=tiles.warps
    )
    wrap_triton(combine_kernel)[(cdiv(rows, 16),)](
        parts, statistics, kl, rows, tiles.chunks, *scale, **combined
    )
    if alpha > 0:
        wrap_triton(smoothed_parts_kernel)[programs](
            first, second, statistics, parts, *shape, *scale, *smoothing, **tile,
            num_warps=tiles.warps,
        )  # fmt: skip
        wrap_triton(smoothed_combine_kernel)[(cdiv(rows, 16),)](
            parts, statistics, kl, rows, tiles.chunks, **combined
        )
    if any(wanted.values()):
        wrap_triton(gradient_kernel)[programs](
            first, second, statistics, to_first, to_second, factors, *shape, divisor, *scale,
            *smoothing, SMOOTHED=alpha > 0, **wanted, **times, **tile, num_warps=tiles.warps,
        )  # fmt: skip


def _sum(values: Tensor, divisor: int) -> Tensor:
    """The sum of a vector over ``divisor``, in a fixed order."""
    out, count = values.new_empty(()), values.numel()
    spans = cdiv(count, SPAN)
    if spans > 1:
        partial = values.new_empty(spans, dtype=torch.float64)
        wrap_triton(sum_kernel)[(spans,)](
            values, partial, count, spans, 1, SPAN=SPAN, BLOCK=256, num_warps=4
        )
        values, count = partial, spans
    wrap_triton(sum_kernel)[(1,)](
        values, out, count, 1, divisor, SPAN=1 << 30, BLOCK=256, num_warps=4
    )
    return out


def _forward(
    input: Tensor,
    target: Tensor,
    temperature: float,
    alpha: float,
    input_first: bool,
    reduction: int,
    grad_input: bool,
    grad_target: bool,
    grad_output: Tensor | None,
    layers: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    check(input.dim() >= 3, "input must have shape (B, C, *space)")
    check(NONE <= reduction <= MEAN, "no such reduction")
    check_floating(input, "input")
    check_floating(target, "target")
    check_shape(target, input, "target")
    if grad_output is not None:
        check_factors(grad_output)
        check(grad_output.numel() == 1, "grad_output must be one number")
    input = in_order(input, input)
    target = in_order(target, input)
    batch, channels = input.shape[:2]
    accumulation = torch.float64 if is_double(input, target) else torch.float32
    to_input = empty_in_order(input, input) if grad_input else None
    to_target = empty_in_order(target, input) if grad_target else None
    divisor = {
        BATCHMEAN: batch,
        CHANNELMEAN: batch * channels,
        MEAN: input.numel(),
    }.get(reduction, 1) * (1 if reduction == NONE else layers)
    if input.numel() == 0:
        kl = input.new_zeros((batch, channels), dtype=accumulation)
    else:
        kl = input.new_empty((batch, channels), dtype=accumulation)
        pair, gradients = (input, target), (to_input, to_target)
        if not input_first:
            pair, gradients = pair[::-1], gradients[::-1]
        _rows(*pair, *gradients, kl, grad_output, divisor, 1 / temperature, alpha)
    if grad_output is not None:
        loss = kl.new_empty(0)
    else:
        loss = kl if reduction == NONE else _sum(kl.view(-1), divisor)
    return (
        loss,
        nothing(input) if to_input is None else to_input,
        nothing(target) if to_target is None else to_target,
    )


@define("channelwise_kl")
def channelwise_kl(
    input: Tensor,
    target: Tensor,
    temperature: float,
    alpha: float,
    input_first: bool,
    reduction: int,
    grad_input: bool,
    grad_target: bool,
    grad_output: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    return _forward(
        input, target, temperature, alpha, input_first, reduction, grad_input, grad_target,
        grad_output,
    )  # fmt: skip


@define("channelwise_kl_layers")
def channelwise_kl_layers(
    input: Sequence[Tensor],
    target: Sequence[Tensor],
    temperature: float,
    alpha: float,
    input_first: bool,
    reduction: int,
    grad_input: Sequence[bool],
    grad_target: Sequence[bool],
    grad_output: Sequence[Tensor],
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    count = len(input)
    same = len(target) == count and len(grad_input) == count and len(grad_target) == count
    check(same and len(grad_output) in (0, count), "lists of layers differ in length")
    factors: Sequence[Tensor | None] = grad_output or [None] * count
    results = [
        _forward(a, b, temperature, alpha, input_first, reduction, grad_a, grad_b, factor, count)
        for a, b, grad_a, grad_b, factor in zip(
            input, target, grad_input, grad_target, factors, strict=True
        )
    ]
    return [r[0] for r in results], [r[1] for r in results], [r[2] for r in results]


def check_factors(factors: Tensor) -> None:
    check(factors.dtype in (torch.float32, torch.float64), "grad_output must be float32 or float64")


def _scale(grad_output: Tensor, gradient: Tensor, out: Tensor) -> None:
    """out = gradient * grad_output; both gradients lie in one order."""
    factors = grad_output.contiguous()
    uniform = factors.numel() == 1
    rows = gradient.shape[0] * gradient.shape[1]
    check_factors(factors)
    check(uniform or factors.numel() == rows, "grad_output must be one number or one for each row")
    if gradient.numel() == 0:
        return
    double = is_double(gradient)
    tiles = tiles_of(gradient, double)
    if uniform:  # one row of everything
        block = 1024 if double else 2048
        tiles = Tiles(1, 1, gradient.numel(), False, 1, block, 4)
    wrap_triton(scale_kernel)[(tiles.blocks * tiles.chunks,)](
        gradient, out, factors, tiles.rows, tiles.channels, tiles.pixels, tiles.blocks,
        tiles.chunks, DOUBLE=double, UNIFORM=uniform, IN_PLACE=out is gradient, LAST=tiles.last,
        R=tiles.R, BLOCK=tiles.block, num_warps=tiles.warps,
    )  # fmt: skip


@define("channelwise_kl_backward")
def channelwise_kl_backward(grad_output: Tensor, gradient: Tensor) -> Tensor:
    gradient = in_order(gradient, gradient)
    result = empty_in_order(gradient, gradient)
    _scale(grad_output, gradient, result)
    return result


@define("channelwise_kl_scale_")
def channelwise_kl_scale_(gradient: Tensor, grad_output: Tensor) -> None:
    gap_free = gradient.is_contiguous() or lies_channels_last(gradient)
    check(gap_free, "the gradient must lie in memory without gaps")
    _scale(grad_output, gradient, gradient)
