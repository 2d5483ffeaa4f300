"""BCE + Dice of one or two branches against a mask."""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
from torch import Tensor

from ansm_fast.ops import backends
from ansm_fast.ops.checks import autocasting, check_batch, check_floating, check_same, check_tensor
from ansm_fast.ops.dual_mask import reference
from ansm_fast.ops.mask_checks import (
    check_mask,
    check_options,
    check_pos_weight_device,
    explain_nan,
)


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
    options = check_options(options)
    ignore_index = options["ignore_index"]
    check_tensor("mask", mask)
    second = mask if mask_orig is None else mask_orig
    masks = {
        "mask": (mask, mask), "mask_orig": (mask_orig, second),
        "bce_target": (options["bce_target"], mask),
        "bce_target_orig": (options["bce_target_orig"], second),
    }  # fmt: skip
    for mask_name, (tensor, _) in masks.items():
        check_mask(mask_name, tensor, logits, ignore_index if "mask" in mask_name else None)
    check_pos_weight_device(options["pos_weight"], logits)
    dtype = torch.float32 if autocasting(logits) and logits.dtype != torch.float64 else logits.dtype
    tensors = (logits, mask) if logits_orig is None else (logits, logits_orig, mask)
    chosen = backends.choose(op, tensors, backend)
    if chosen != "reference":
        loss, components = backends.native(chosen)["dual_mask"](
            logits, logits_orig, mask, mask_orig, **options
        )
    elif logits_orig is None:
        single = {k: v for k, v in options.items() if not k.endswith(("_adv", "_orig"))}
        loss, components = reference.bce_dice_loss(logits, mask, **single)
    else:
        loss, components = reference.dual_mask_loss(
            logits, logits_orig, mask, mask_orig=mask_orig, **options
        )
    explain_nan(loss, masks, ignore_index)
    loss = loss.to(dtype)
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
    """Compute binary cross-entropy plus Dice loss of logits against a mask, for each sample.

    With p = sigmoid(logits), y the mask, t = ``bce_target`` (by default y), sums over the pixels
    of a sample::

        bce  = mean of -(pos_weight * t * log(p) + (1 - t) * log(1 - p))
        dice = 1 - (2 * sum(p * y) + smooth) / (sum(p) + sum(y) + smooth)
        loss = bce_weight * bce + dice_weight * dice

    Args:
        logits: (B, ...), float32, float16, bfloat16 or float64; usually (B, 1, H, W).
        mask: same shape, constant. bool or uint8: 0 is pristine, every other value forged, so
            that 0 and 1, and 0 and 255 mean the same. Floating: in [0, 1], a soft mask; up to
            1/128 outside, as resizing and blurring leave it, counts as 0 or 1. See below.
        bce_weight, dice_weight: finite numbers. With 0 a term adds nothing to the loss and its
            gradient, even where it is NaN or infinite.
        bce_target: another, soft target for the cross-entropy, of the shape and the values of a
            mask. As BCE is linear in its target, a blend of two targets is one target.
        pos_weight: on the positive part: a number >= 0, or a tensor of one element, which is a
            constant. On the CPU its value is checked; a negative one on a GPU gives NaN.
        smooth: a number >= 0. With 0, a Dice loss of neither mask nor prediction is 0.
        ignore_index: an integer; pixels whose mask has this value, also if that is 0 or 1, count
            nowhere, whatever their logit and target. With 255, a mask of 0 and 255 is one of
            pristine and ignored pixels: nothing tells 255 for "forged" from 255 for "ignored".
        reduction: over samples: "mean", "sum", or "none" for (B,).
        return_components: also return [bce, dice], detached.
        backend: "cpu", "reference", ...; by default the first that can run.

    Returns:
        The loss in the dtype of ``logits`` (float32 under autocast); with ``return_components``
        also a float32 (float64 for float64) tensor (2,), or (2, B) for reduction "none".

    A sample whose pixels are all ignored has loss 0 and gradient 0, and "mean" counts it as a
    sample. ``F.cross_entropy`` averages over the pixels of the whole batch instead, so that such a
    sample counts for nothing there, and a batch of nothing else gives NaN. The mean over an empty
    batch is NaN.

    A sample whose floating mask has another value, for example 255, has the loss NaN, and NaN
    gradients; of a ``bce_target`` that holds for the cross-entropy and the pixels concerned. The
    kernels find it in the pass that they make anyway. Where the loss can be read without waiting
    for a device (on the CPU, but not in a graph of ``torch.compile``) a NaN is looked into, and
    ValueError names the argument and its range.

    A sample whose gradient of the loss is 0 has gradient 0, also if its loss is NaN, as when
    ``losses[losses.isfinite()].mean()`` leaves it out (backend "reference": 0 * NaN is NaN).

    Every tensor is read once forward and once backward; only five sums a sample are kept between.
    Differentiable once in ``logits``.

    Raises:
        TypeError: wrong dtype or type. ValueError: shapes or devices differ, a mask or pos_weight
            that requires grad, a mask outside [0, 1] (see above), an option out of range, an
            ``ignore_index`` that the mask's dtype cannot hold. BackendError: the forced backend
            cannot run.
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
    """Compute the dual-mask constraint of MgR (arXiv 2506.12871), both branches in one pass::

        weight_adv * l(logits_adv, mask) + weight_orig * l(logits_orig, mask_orig)

    where ``l`` is ``bce_dice_loss``, ``logits_adv`` are the localizer's logits of the defended
    attacked image and ``logits_orig`` those of the defended original image.

    Args:
        logits_adv, logits_orig: (B, ...), same shape and dtype.
        mask: the truth, as in ``bce_dice_loss``.
        mask_orig: another mask for the original branch; by default ``mask``, read only once.
        weight_adv, weight_orig: finite numbers; a branch of weight 0 adds nothing, even NaN.
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
