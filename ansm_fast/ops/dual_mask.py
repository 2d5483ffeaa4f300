"""BCE + Dice of one or two branches against a mask."""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
from torch import Tensor

from ansm_fast.ops import backends, reference
from ansm_fast.ops.checks import (
    FLOATING,
    autocasting,
    check_batch,
    check_choice,
    check_floating,
    check_same,
    check_shape,
)

REDUCTIONS = ("mean", "sum", "none")


def _check_mask(name: str, mask: Tensor | None, logits: Tensor) -> None:
    if mask is None:
        return
    check_shape(name, mask, "the logits", logits)
    if mask.dtype not in (torch.bool, torch.uint8, *FLOATING):
        raise TypeError(
            f"{name} must be bool, uint8 (0 or 1) or floating in [0, 1], got {mask.dtype}; "
            f"convert it with {name}.bool()"
        )
    if mask.requires_grad:
        raise ValueError(f"{name} is a constant of this loss; pass {name}.detach()")


def _run(
    op: str,
    logits: Tensor,
    logits_orig: Tensor | None,
    mask: Tensor,
    mask_orig: Tensor | None,
    backend: str | None,
    return_components: bool,
    options: dict[str, Any],
) -> Tensor | tuple[Tensor, Tensor]:
    name = "logits" if logits_orig is None else "logits_adv"
    check_floating(name, logits)
    check_batch(name, logits)
    if logits_orig is not None:
        check_same("logits_orig", logits_orig, name, logits)
    for mask_name, tensor in (
        ("mask", mask), ("mask_orig", mask_orig), ("bce_target", options["bce_target"]),
        ("bce_target_orig", options["bce_target_orig"]),
    ):  # fmt: skip
        _check_mask(mask_name, tensor, logits)
    check_choice("reduction", options["reduction"], REDUCTIONS)
    if not options["smooth"] >= 0:
        raise ValueError(f"smooth must be >= 0, got {options['smooth']}")
    weight = options["pos_weight"]
    if isinstance(weight, Tensor) and weight.numel() != 1:
        raise ValueError(
            f"pos_weight must be a number or a tensor of one element, got {tuple(weight.shape)}"
        )
    wide = torch.float32 if autocasting(logits) and logits.dtype != torch.float64 else logits.dtype
    chosen = backends.choose(op, (logits, mask), backend)
    if chosen != "reference":
        loss, components = backends.native(chosen).dual_mask(
            logits, logits_orig, mask, mask_orig, **options
        )
    elif logits_orig is None:
        single = {k: v for k, v in options.items() if not k.endswith(("_adv", "_orig"))}
        loss, components = reference.bce_dice_loss(logits, mask, **single)
    else:
        loss, components = reference.dual_mask_loss(
            logits, logits_orig, mask, mask_orig=mask_orig, **options
        )
    loss = loss.to(wide)
    return (loss, components) if return_components else loss


@overload
def bce_dice_loss(
    logits: Tensor,
    mask: Tensor,
    *,
    return_components: Literal[False] = ...,
    bce_weight: float = ...,
    dice_weight: float = ...,
    bce_target: Tensor | None = ...,
    pos_weight: float | Tensor | None = ...,
    smooth: float = ...,
    ignore_index: int | None = ...,
    reduction: str = ...,
    backend: str | None = ...,
) -> Tensor: ...
@overload
def bce_dice_loss(
    logits: Tensor,
    mask: Tensor,
    *,
    return_components: Literal[True],
    bce_weight: float = ...,
    dice_weight: float = ...,
    bce_target: Tensor | None = ...,
    pos_weight: float | Tensor | None = ...,
    smooth: float = ...,
    ignore_index: int | None = ...,
    reduction: str = ...,
    backend: str | None = ...,
) -> tuple[Tensor, Tensor]: ...
def bce_dice_loss(
    logits: Tensor,
    mask: Tensor,
    *,
    bce_weight: float = 1.0,
    dice_weight: float = 1.0,
    bce_target: Tensor | None = None,
    pos_weight: float | Tensor | None = None,
    smooth: float = 1.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
    return_components: bool = False,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Binary cross-entropy plus Dice loss of logits against a mask, one value for each sample.

    With p = sigmoid(logits), y the mask, t = ``bce_target`` (by default y), sums over the pixels
    of a sample::

        bce  = mean of -(pos_weight * t * log(p) + (1 - t) * log(1 - p))
        dice = 1 - (2 * sum(p * y) + smooth) / (sum(p) + sum(y) + smooth)
        loss = bce_weight * bce + dice_weight * dice

    Args:
        logits: (B, ...), float32, float16, bfloat16 or float64; usually (B, 1, H, W).
        mask: same shape; bool, uint8 holding 0 or 1, or floating in [0, 1] (a soft mask). Constant.
        bce_weight, dice_weight: weights of the terms.
        bce_target: another, soft target for the cross-entropy, same shape. As BCE is linear in
            its target, a blend of two targets is one target.
        pos_weight: a number, or a tensor of one element, on the positive part.
        smooth: >= 0.
        ignore_index: pixels whose mask has this value count nowhere.
        reduction: over samples: "mean", "sum", or "none" for (B,).
        return_components: also return [bce, dice], detached.
        backend: "cpu", "reference", ...; by default the first that can run.

    Returns:
        The loss in the dtype of ``logits`` (float32 under autocast); with ``return_components``
        also a float32 (float64 for float64) tensor (2,), or (2, B) for reduction "none".

    Every tensor is read once forward and once backward; only five sums a sample are kept between.
    Differentiable once in ``logits``.

    Raises:
        TypeError: wrong dtype. ValueError: shapes or devices differ, a mask that requires grad,
            an unknown reduction. BackendError: the forced backend cannot run.
    """
    return _run(
        "bce_dice_loss", logits, None, mask, None, backend, return_components,
        {
            "weight_adv": 1.0, "weight_orig": 1.0, "bce_weight": bce_weight,
            "dice_weight": dice_weight, "bce_target": bce_target, "bce_target_orig": None,
            "pos_weight": pos_weight, "smooth": smooth, "ignore_index": ignore_index,
            "reduction": reduction,
        },
    )  # fmt: skip


@overload
def dual_mask_loss(
    logits_adv: Tensor,
    logits_orig: Tensor,
    mask: Tensor,
    *,
    return_components: Literal[False] = ...,
    mask_orig: Tensor | None = ...,
    weight_adv: float = ...,
    weight_orig: float = ...,
    bce_weight: float = ...,
    dice_weight: float = ...,
    bce_target: Tensor | None = ...,
    bce_target_orig: Tensor | None = ...,
    pos_weight: float | Tensor | None = ...,
    smooth: float = ...,
    ignore_index: int | None = ...,
    reduction: str = ...,
    backend: str | None = ...,
) -> Tensor: ...
@overload
def dual_mask_loss(
    logits_adv: Tensor,
    logits_orig: Tensor,
    mask: Tensor,
    *,
    return_components: Literal[True],
    mask_orig: Tensor | None = ...,
    weight_adv: float = ...,
    weight_orig: float = ...,
    bce_weight: float = ...,
    dice_weight: float = ...,
    bce_target: Tensor | None = ...,
    bce_target_orig: Tensor | None = ...,
    pos_weight: float | Tensor | None = ...,
    smooth: float = ...,
    ignore_index: int | None = ...,
    reduction: str = ...,
    backend: str | None = ...,
) -> tuple[Tensor, Tensor]: ...
def dual_mask_loss(
    logits_adv: Tensor,
    logits_orig: Tensor,
    mask: Tensor,
    *,
    mask_orig: Tensor | None = None,
    weight_adv: float = 1.0,
    weight_orig: float = 1.0,
    bce_weight: float = 1.0,
    dice_weight: float = 1.0,
    bce_target: Tensor | None = None,
    bce_target_orig: Tensor | None = None,
    pos_weight: float | Tensor | None = None,
    smooth: float = 1.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
    return_components: bool = False,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """The dual-mask constraint of MgR (arXiv 2506.12871), both branches in one pass::

        weight_adv * l(logits_adv, mask) + weight_orig * l(logits_orig, mask_orig)

    where ``l`` is ``bce_dice_loss``, ``logits_adv`` are the localizer's logits of the defended
    attacked image and ``logits_orig`` those of the defended original image.

    Args:
        logits_adv, logits_orig: (B, ...), same shape and dtype.
        mask: the truth, as in ``bce_dice_loss``.
        mask_orig: another mask for the original branch; by default ``mask``, read only once.
        weight_adv, weight_orig: weights of the branches.
        bce_target, bce_target_orig: soft targets of the cross-entropies, for example a blend of
            the truth and the localizer's own mask of the original image.

    The other arguments, the dtypes and the errors are those of ``bce_dice_loss``.

    Returns:
        The loss; with ``return_components`` also [bce_adv, dice_adv, bce_orig, dice_orig],
        detached: (4,), or (4, B) for reduction "none".
    """
    if not isinstance(logits_orig, Tensor):
        raise TypeError(f"logits_orig must be a tensor, got {type(logits_orig).__name__}")
    return _run(
        "dual_mask_loss", logits_adv, logits_orig, mask, mask_orig, backend, return_components,
        {
            "weight_adv": weight_adv, "weight_orig": weight_orig, "bce_weight": bce_weight,
            "dice_weight": dice_weight, "bce_target": bce_target,
            "bce_target_orig": bce_target_orig, "pos_weight": pos_weight, "smooth": smooth,
            "ignore_index": ignore_index, "reduction": reduction,
        },
    )  # fmt: skip
