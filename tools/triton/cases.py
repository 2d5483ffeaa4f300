"""Calls of every op: arguments, the float64 truth, and the bytes that its launches need to move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.channelwise_kl import reference as kl_reference
from ansm_fast.ops.channelwise_kl.triton import PARTS, STATISTICS, tiles_of
from ansm_fast.ops.dual_mask import reference as mask_reference
from ansm_fast.ops.image_pack import reference as pack_reference
from ansm_fast.ops.mask_values import mask_values
from ansm_fast.ops.perturbation import reference as step

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
LAYOUTS = ("contiguous", "channels_last")
WIDE = {torch.float64: torch.float64}  # what sums and losses are in: else float32
REDUCTIONS = ("none", "sum", "batchmean", "channelmean", "mean")
SECTOR = 32  # bytes: the least that memory gives
WEIGHTS = (0.7, 1.3, 0.9, 1.1, 2.5, 1.0)
# Of results, relative to the largest true one. Half types are rounded to nearest, once.
BOUNDS = {
    torch.float64: 1e-11, torch.float32: 2e-5, torch.float16: 2**-11 * 1.05,
    torch.bfloat16: 2**-8 * 1.05, torch.uint8: 0.0,
}  # fmt: skip


@dataclass
class Case:
    op: str
    label: str
    arguments: tuple[Any, ...]
    truth: Callable[..., list[Tensor]]  # of the same arguments in float64
    floor: int | None = None  # bytes read and written by all launches; None: not counted here
    written: tuple[int, ...] = ()  # arguments that hold the results, beside what is returned


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same values as contiguous, channels-last, sliced (with gaps) or misaligned memory."""
    if layout == "channels_last" and tensor.dim() > 2:
        return tensor.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "gaps":
        wide = torch.zeros(*tensor.shape[:-1], tensor.shape[-1] + 3, dtype=tensor.dtype)
        wide[..., 1 : tensor.shape[-1] + 1] = tensor
        return wide[..., 1 : tensor.shape[-1] + 1]
    if layout == "misaligned":
        flat = torch.zeros(tensor.numel() + 1, dtype=tensor.dtype)
        flat[1:] = tensor.reshape(-1)
        return flat[1:].view(tensor.shape)
    return tensor.contiguous()


def in_double(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(in_double(v) for v in value)
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def size_of(*tensors: Tensor | None) -> int:
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


# --- truths -------------------------------------------------------------------------------------


def kl_truth(
    input: Tensor, target: Tensor, temperature: float, alpha: float, input_first: bool,
    reduction: int, grad_input: bool, grad_target: bool, grad_output: Tensor | None = None,
) -> list[Tensor]:  # fmt: skip
    leaves = [x.detach().requires_grad_() for x in (input, target)]
    loss = kl_reference.channelwise_kl(
        *leaves, temperature=temperature, alpha=alpha, reduction=REDUCTIONS[reduction],
        direction="input_target" if input_first else "target_input",
    )  # fmt: skip
    gradients = torch.autograd.grad(loss.sum(), leaves)
    if grad_output is not None:
        loss, gradients = loss.new_empty(0), [g * grad_output for g in gradients]
    wanted = [
        g if w else g.new_empty(0)
        for g, w in zip(gradients, (grad_input, grad_target), strict=True)
    ]
    return [loss.detach(), *wanted]


def layers_truth(
    input: list[Tensor], target: list[Tensor], temperature: float, alpha: float,
    input_first: bool, reduction: int, grad_input: list[bool], grad_target: list[bool],
    grad_output: list[Tensor],
) -> list[Tensor]:  # fmt: skip
    rest = (temperature, alpha, input_first, reduction)
    factors = grad_output or [None] * len(input)
    each = [
        kl_truth(a, b, *rest, *wanted)
        for a, b, *wanted in zip(input, target, grad_input, grad_target, factors, strict=True)
    ]
    share = 1 if REDUCTIONS[reduction] == "none" else len(input)
    return [result[k] / share for k in range(3) for result in each]


def scale_truth(grad_output: Tensor, gradient: Tensor) -> list[Tensor]:
    shape = grad_output.shape + (1,) * (gradient.dim() - grad_output.dim())
    return [gradient * (grad_output if grad_output.dim() == 0 else grad_output.reshape(shape))]


def branches_of(*tensors: Any) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """(logits, mask, target) of each branch."""
    logits, logits_orig, mask, mask_orig, target, target_orig = tensors
    yield logits, mask, target
    if logits_orig is not None:
        yield logits_orig, mask if mask_orig is None else mask_orig, target_orig


def dual_mask_truth(*arguments: Any) -> list[Tensor]:
    *tensors, pos_weight, weights, ignore_index, reduction = arguments
    *factors, bce_weight, dice_weight, positive, smooth = weights
    losses, leaves, components, sums = [], [], [], []
    for z, mask, t in branches_of(*tensors):
        bce, dice = mask_reference.branch_terms(
            z, mask, bce_target=t, smooth=smooth, ignore_index=ignore_index,
            pos_weight=positive if pos_weight is None else pos_weight,
        )  # fmt: skip
        y, p = mask.flatten(1).double(), z.flatten(1).sigmoid()
        valid = torch.ones_like(y) if ignore_index is None else (y != ignore_index).double()
        y = mask_values(mask, torch.float64).flatten(1)
        p, y = (torch.where(valid > 0, x, 0.0) for x in (p, y))
        parts = (bce * valid.sum(1), (p * y).sum(1), p.sum(1), y.sum(1), valid.sum(1))
        sums.append(torch.stack(parts, 1))
        terms = (bce_weight, dice_weight), (bce, dice)
        losses.append(mask_reference.weighted_sum(*terms, z))
        leaves.append(z)
        components += [bce.detach(), dice.detach()]
    factors = factors[: len(losses)]
    total = mask_reference.weighted_sum(tuple(factors), tuple(losses), *leaves)
    rows = torch.stack([total, *components])
    rows = rows if reduction == 0 else rows.sum(1) if reduction == 1 else rows.mean(1)
    return [rows[0], rows[1:], torch.stack(sums)]


def dual_mask_backward_truth(grad_output: Tensor, sums: Tensor, *arguments: Any) -> list[Tensor]:
    *forward, want, want_orig = arguments
    leaves = [None if z is None else z.detach().requires_grad_() for z in forward[:2]]
    loss = dual_mask_truth(*leaves, *forward[2:])[0]
    gradients = torch.autograd.grad(
        (loss * grad_output).sum(), [z for z in leaves if z is not None]
    )
    found = [*gradients, gradients[0].new_empty(0)][:2]
    return [g if w else g.new_empty(0) for g, w in zip(found, (want, want_orig), strict=True)]


def budget_of(number: float, tensor: Tensor | None) -> Any:
    return number if tensor is None else tensor if tensor.numel() > 1 else tensor.reshape(())


def norm_of(l2: bool) -> str:
    return "l2" if l2 else "linf"


def project_truth(
    image: Tensor, noise: Tensor, eps: float, sample_eps: Tensor | None, l2: bool, low: float,
    high: float,
) -> list[Tensor]:  # fmt: skip
    budget = budget_of(eps, sample_eps)
    return [step.clamp_project(image, noise, budget, norm=norm_of(l2), min=low, max=high)]


def project_backward_truth(grad: Tensor, image: Tensor, noise: Tensor, *rest: Any) -> list[Tensor]:
    *limits, want_image, want_noise = rest
    leaves = [x.detach().requires_grad_() for x in (image, noise)]
    gradients = torch.autograd.grad(project_truth(*leaves, *limits)[0], leaves, grad)
    return [
        g if w else g.new_empty(0) for g, w in zip(gradients, (want_image, want_noise), strict=True)
    ]


def pgd_truth(
    adv: Tensor, grad: Tensor, image: Tensor, alpha: float, sample_alpha: Tensor | None,
    eps: float, sample_eps: Tensor | None, l2: bool, low: float, high: float,
) -> list[Tensor]:  # fmt: skip
    budgets = budget_of(alpha, sample_alpha), budget_of(eps, sample_eps)
    return [step.pgd_step_(adv.clone(), grad, image, *budgets, norm=norm_of(l2), min=low, max=high)]


def momentum_truth(
    adv: Tensor, momentum: Tensor, grad: Tensor, image: Tensor, alpha: float,
    sample_alpha: Tensor | None, eps: float, sample_eps: Tensor | None, decay: float, l2: bool,
    low: float, high: float,
) -> list[Tensor]:  # fmt: skip
    budgets = budget_of(alpha, sample_alpha), budget_of(eps, sample_eps)
    after = momentum.clone()
    moved = step.momentum_step_(
        adv.clone(), after, grad, image, *budgets, decay=decay, norm=norm_of(l2), min=low, max=high
    )
    return [moved, after]


def pack_truth(images: Tensor, bgr: bool, last: bool, dtype: torch.dtype) -> list[Tensor]:
    memory = torch.channels_last if last else torch.contiguous_format
    return [pack_reference.image_pack(images, bgr=bgr, memory_format=memory, dtype=dtype)]


def unpack_truth(
    image: Tensor, noise: Tensor | None, eps: float, sample_eps: Tensor | None, bounded: bool,
    bgr: bool,
) -> list[Tensor]:  # fmt: skip
    budget = budget_of(eps, sample_eps) if bounded else None
    return [pack_reference.image_unpack(image, noise, budget, bgr=bgr)]


# --- cases --------------------------------------------------------------------------------------


def kl_floor(input: Tensor, alpha: float, reduction: int, grads: tuple[bool, bool]) -> int:
    """Rows on chip: both inputs read and each gradient written once. Longer ones: both inputs
    read for the sums (twice for alpha > 0) and for the gradients, and the chunks' sums between."""
    wide = WIDE.get(input.dtype, torch.float32).itemsize
    double = input.dtype == torch.float64
    tiles = tiles_of(input, double, alpha > 0)
    tensor, row, wanted = size_of(input), tiles.rows * wide, sum(grads)
    total = wanted * tensor + 2 * tensor + row  # KL of rows
    if reduction:
        total += row + wide
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


def kl_cases(dtype: torch.dtype, layout: str) -> Iterator[Case]:
    shapes = {
        "contiguous": [(2, 4, 24, 28), (3, 8, 17, 15), (1, 2, 96, 100)],
        "channels_last": [(1, 40, 12, 20), (2, 17, 7, 9), (1, 36, 20, 31)],
    }[layout]
    options = [
        (1.0, 0.0, True, 4, True, True), (4.0, 0.0, False, 0, True, False),
        (0.5, 0.1, True, 2, True, True),
    ]  # fmt: skip
    for shape in shapes:
        for option in options:
            pair = [laid_out((torch.randn(shape) * 2).to(dtype), layout) for _ in range(2)]
            floor = kl_floor(pair[0], option[1], option[3], option[4:])
            if not option[2]:  # the caller's second is the kernels' first
                floor = kl_floor(pair[0], option[1], option[3], option[:3:-1])
            label = f"{'x'.join(map(str, shape))} alpha={option[1]:g}"
            yield Case("channelwise_kl", label, (*pair, *option), kl_truth, floor)
            # As the backward of float16 calls it: gradients alone, by a factor on the device.
            if option != options[0] and shape != shapes[0]:
                continue
            factor = torch.tensor(3072.0, dtype=WIDE.get(dtype, torch.float32))
            flags = {"label": f"{label} times a factor", "truth": kl_truth, "floor": None}
            yield Case("channelwise_kl", arguments=(*pair, *option, factor), **flags)
    pairs = [[laid_out(torch.randn(2, c, 24, 28).to(dtype), layout) for c in (3, 5)] for _ in "ab"]
    flags = ([True, False], [True, True])
    floor = sum(kl_floor(pairs[0][i], 0.0, 3, (flags[0][i], flags[1][i])) for i in range(2))
    arguments = (*pairs, 1.0, 0.0, True, 3, *flags)
    yield Case("channelwise_kl_layers", "2 layers", (*arguments, []), layers_truth, floor)
    factors = [torch.tensor(2.0), torch.tensor(-0.25, dtype=torch.float64)]
    label = "2 layers times factors"
    yield Case("channelwise_kl_layers", label, (*arguments, factors), layers_truth, None)
    gradient = laid_out(torch.randn(2, 20, 16, 12).to(dtype), layout)
    size = size_of(gradient)
    for factors in (torch.tensor(3.0), torch.randn(2, 20)):
        arguments = (factors, gradient)
        floor = 2 * size + size_of(factors)
        label = "uniform" if factors.dim() == 0 else "per row"
        yield Case("channelwise_kl_backward", label, arguments, scale_truth, floor)

    def in_place(gradient: Tensor, factors: Tensor) -> list[Tensor]:
        return scale_truth(factors, gradient)

    for value, floor in ((3.0, 2 * size + 4), (1.0, SECTOR)):
        arguments = (gradient.clone(), torch.tensor(value))
        label = f"times {value:g}"
        yield Case("channelwise_kl_scale_", label, arguments, in_place, floor, (0,))


def left_out_truth(grad_output: Tensor, *arguments: Any) -> list[Tensor]:
    """As for a sound mask: the gradient is 0 where ``grad_output`` is."""
    *before, mask = arguments[:4]
    return dual_mask_backward_truth(grad_output, *before, mask.clamp(0, 1), *arguments[4:])


def odd_masks(dtype: torch.dtype, layout: str) -> dict[str, tuple[Any, ...]]:
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
    negative = torch.tensor([-1.0], dtype=torch.float64)
    ones, no_bce, no_branch = (1.0, 1.0, 1.0, 1.0, 1.0, 0.0), list(WEIGHTS), list(WEIGHTS)
    no_bce[2], no_branch[0], no_branch[3] = 0.0, 0.0, 0.0
    return {
        "0, 255 and ignored": (hidden, None, labels, None, None, None, None, ones, 7, 0),
        "no mask": (z, z_orig, spoilt, None, None, None, None, WEIGHTS, None, 0),
        "no BCE": (z, z_orig, soft, labels, None, wrong, None, tuple(no_bce), 7, 0),
        "no target": (z, z_orig, soft, None, wrong, None, None, WEIGHTS, None, 0),
        "negative weight": (z, None, soft, None, None, None, negative, WEIGHTS, None, 0),
        "no branch": (infinite, z_orig, soft, None, None, None, None, tuple(no_branch), None, 2),
    }


def dual_mask_cases(dtype: torch.dtype, layout: str) -> Iterator[Case]:
    wide = WIDE.get(dtype, torch.float32)
    for shape in ((2, 1, 48, 64), (3, 2, 37, 31)):
        drawn = [laid_out((torch.randn(shape) * 4).to(dtype), layout) for _ in range(4)]
        z, z_orig, soft, blend = *drawn[:2], drawn[2].sigmoid(), drawn[3].sigmoid()
        hard = laid_out(torch.rand(shape) > 0.5, layout)
        ignored = laid_out((torch.rand(shape) * 3).byte(), layout)
        weight = torch.tensor([3.0], dtype=torch.float64)
        odd = odd_masks(dtype, layout) if shape[0] == 3 else {}
        calls = {
            "shared mask": (z, z_orig, hard, None, None, None, None, WEIGHTS, None, 2),
            "one branch": (z, None, ignored, None, soft, None, weight, WEIGHTS, 2, 0),
            "everything": (z, z_orig, soft, hard, None, blend, None, WEIGHTS, None, 1),
            **odd,
        }  # fmt: skip
        batch = shape[0]
        elements = z.numel() // batch
        pieces = -(-elements // (1024 if dtype == torch.float64 else 2048))
        for name, arguments in calls.items():
            *tensors, pos_weight, _, _, reduction = arguments
            branches = 1 if arguments[1] is None else 2
            parts = branches * 5 * batch * pieces * wide.itemsize
            sums = branches * 5 * batch * 8
            rows = 1 + 2 * branches
            once = size_of(*tensors)
            floor = once + size_of(pos_weight) + 2 * parts + sums
            floor += rows * batch * (8 if reduction else wide.itemsize)
            if reduction:
                floor += rows * (8 * batch + wide.itemsize)
            label = f"{'x'.join(map(str, shape))} {name}"
            uncounted = name in odd  # what a weight of 0 leaves out is not read
            floor = None if uncounted else floor
            yield Case("dual_mask", label, arguments, dual_mask_truth, floor)
            saved = dual_mask_truth(*in_double(arguments))[2]
            grad = torch.randn(batch) if reduction == 0 else torch.tensor(1.7)
            grads = (True, branches == 2)
            floor = once + size_of(pos_weight, grad) + branches * size_of(z)
            floor += branches * batch * 4 * 8  # the sum of BCE is not needed
            floor = None if uncounted else floor
            yield Case(
                "dual_mask_backward", label, (grad, saved, *arguments, *grads),
                dual_mask_backward_truth, floor,
            )  # fmt: skip
            if name == "no mask":  # its loss is NaN, but nothing follows from it
                grad = grad.clone()
                grad[1] = 0.0
                arguments = (grad, saved, *arguments, *grads)
                yield Case("dual_mask_backward", f"{label}, left out", arguments, left_out_truth)


def perturbation_cases(dtype: torch.dtype, layout: str) -> Iterator[Case]:
    for shape in ((2, 3, 24, 32), (3, 3, 17, 13)):
        image = laid_out(torch.rand(shape).to(dtype), layout)
        noise, grad = (laid_out((torch.randn(shape) * s).to(dtype), layout) for s in (0.1, 1.0))
        adv = (image + noise * 0.2).clamp(0, 1)
        size, batch = size_of(image), shape[0]
        block = 4096 // image.element_size()
        part = batch * -(-(image.numel() // batch) // block) * 8
        for l2 in (False, True):
            # In l2 some budgets bind and some do not.
            each = torch.linspace(0.02, 40.0 if l2 else 0.2, batch, dtype=torch.float64)
            for sample_eps in (None, each):
                limits = (0.05, sample_eps, l2, 0.0, 1.0)
                label = f"{'x'.join(map(str, shape))} {norm_of(l2)}"
                label += "" if sample_eps is None else " per sample"
                eps = size_of(sample_eps)
                shrink = size + 2 * part + eps + 2 * batch * 8 if l2 else 0
                floor = 3 * size + shrink + (batch * 8 if l2 else eps)
                yield Case("clamp_project", label, (image, noise, *limits), project_truth, floor)
                floor = 5 * size + shrink + (batch * 16 if l2 else eps)
                if l2:
                    floor += 3 * size + batch * 8 + 2 * part + eps + 2 * batch * 8
                arguments = (grad, image, noise, *limits, True, True)
                yield Case(
                    "clamp_project_backward", label, arguments, project_backward_truth, floor
                )
                floor = 4 * size + eps
                if l2:
                    floor = 4 * size + 3 * size + 6 * part + eps + 2 * 16 * batch
                arguments = (adv.clone(), grad, image, 0.03, None, *limits)
                yield Case("pgd_step_", label, arguments, pgd_truth, floor, (0,))
                floor = 6 * size + size + 2 * part + 2 * 8 * batch + eps
                if l2:
                    floor = 6 * size + 4 * size + 14 * part + 2 * 24 * batch + eps
                arguments = (adv.clone(), noise.clone(), grad, image, 0.03, None, *limits[:2], 0.8)
                arguments = (*arguments, *limits[2:])
                yield Case("momentum_step_", label, arguments, momentum_truth, floor, (0, 1))


def image_cases(dtype: torch.dtype, layout: str) -> Iterator[Case]:
    last = layout == "channels_last"
    for shape in ((2, 24, 40, 3), (1, 33, 31, 3)):
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        for bgr in (True, False):
            label = f"{'x'.join(map(str, shape))} {'BGR' if bgr else 'RGB'}"
            packed = pack_truth(images, bgr, last, dtype)[0]
            floor = size_of(images, packed)
            arguments: tuple[Any, ...] = (images, bgr, last, dtype)
            yield Case("image_pack", label, arguments, pack_truth, floor)
            noise = laid_out((torch.randn(packed.shape) * 0.05).to(dtype), layout)
            each = torch.full((shape[0],), 2.5 / 255, dtype=torch.float64)
            calls = {
                "": (None, 0.0, None, False), " added": (noise, 0.0, None, False),
                " bounded": (noise, 8 / 255, None, True), " per sample": (noise, 0.0, each, True),
            }  # fmt: skip
            for name, rest in calls.items():
                floor = size_of(images, packed, rest[0], rest[2])
                arguments = (packed, *rest, bgr)
                yield Case("image_unpack", label + name, arguments, unpack_truth, floor)


def cases(dtype: torch.dtype, layout: str) -> Iterator[Case]:
    """Every op on even and odd shapes; the same numbers at every call."""
    for make in (kl_cases, dual_mask_cases, perturbation_cases, image_cases):
        torch.manual_seed(0)
        yield from make(dtype, layout)


def bound_of(case: Case, result: Tensor) -> float:
    """The largest relative error that is allowed; sums in float64 are as good as what is added."""
    if case.op == "image_pack":  # the bits of the reference
        return 0.0
    # The budget may take a half type one step back.
    steps = case.op in ("clamp_project", "pgd_step_", "momentum_step_")
    if steps and result.dtype in (torch.float16, torch.bfloat16):
        return 3 * BOUNDS[result.dtype]
    given = [a.dtype for a in in_list(case.arguments) if a.is_floating_point() and a.dim()]
    single = result.dtype == torch.float64 and torch.float64 not in given[:1]
    return BOUNDS[torch.float32 if single else result.dtype]


def in_list(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [t for v in values for t in in_list(v)] if isinstance(values, (list, tuple)) else []
