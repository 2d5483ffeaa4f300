"""The focal loss of logits against a binary mask."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops import backends
from ansm_fast.ops.checks import autocasting, check_finite, check_floating, check_tensor
from ansm_fast.ops.focal import reference
from ansm_fast.ops.mask_checks import (
    check_mask,
    check_options,
    check_pos_weight_device,
    explain_nan,
)


def check_focal_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that the loss and its module keep; alpha is -1 for no weighting."""
    options = check_options(options)
    check_finite("gamma", options["gamma"], 0)
    alpha = options["alpha"]
    if alpha is None or check_finite("alpha", alpha) < 0:
        return options | {"alpha": -1.0}
    if alpha > 1:
        raise ValueError(
            f"alpha must be in [0, 1], or None (or negative) for no weighting, got {alpha}"
        )
    return options


def focal_loss(
    logits: Tensor,
    mask: Tensor,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    pos_weight: float | Tensor | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    backend: str | None = None,
) -> Tensor:
    """Compute the focal loss (RetinaNet, arXiv 1708.02002) of logits against a mask, by pixel.

    With p = sigmoid(logits), y the mask::

        ce      = -(pos_weight * y * log(p) + (1 - y) * log(1 - p))
        p_t     = p * y + (1 - p) * (1 - y)
        alpha_t = alpha * y + (1 - alpha) * (1 - y)
        loss    = alpha_t * (1 - p_t) ** gamma * ce

    as ``torchvision.ops.sigmoid_focal_loss``, which has no ``pos_weight`` and ``ignore_index``.

    Args:
        logits: any shape, float32, float16, bfloat16 or float64; usually (B, 1, H, W).
        mask: same shape, constant. bool or uint8: 0 is pristine, every other value forged, so
            that 0 and 1, and 0 and 255 mean the same. Floating: in [0, 1], a soft mask; up to
            1/128 outside, as resizing and blurring leave it, counts as 0 or 1. See below.
        alpha: in [0, 1], the weight of forged pixels, pristine ones having 1 - alpha; None (or a
            negative number, as in torchvision) for a weight of 1 each.
        gamma: a finite number >= 0. With 0 the loss is the weighted cross-entropy, exactly.
        pos_weight: on the positive part: a number >= 0, or a tensor of one element, which is a
            constant. On the CPU its value is checked; a negative one on a GPU gives NaN.
        ignore_index: an integer; pixels whose mask has this value, also if that is 0 or 1, count
            nowhere, whatever their logit: their loss and gradient are 0.
        reduction: "mean" over the pixels of the batch that are not ignored, "sum", or "none" for
            the loss of each pixel, in the shape of the logits.
        backend: "cpu", "reference", ...; by default the first that can run.

    Returns:
        The loss in the dtype of ``logits`` (float32 under autocast), a scalar or one a pixel.

    Without any pixel to count, of an empty batch or where all pixels are ignored, "mean" and "sum"
    are 0 and so is the gradient.

    A floating mask's value outside [0, 1], for example 255, gives the loss NaN, and the gradient of
    the pixels concerned is NaN. The kernels find it in the pass that they make anyway. Where the
    loss can be read without waiting for a device (on the CPU, but not in a graph of
    ``torch.compile``) a NaN is looked into, and ValueError names the range.

    Finite logits of any size have a finite loss and gradient: ``1 - p_t`` is made as a sum of
    positive parts, so that for 0 < gamma < 1, where the derivative of its power at 0 is infinite,
    the gradient of a pixel that is certainly right tends to 0 (torchvision's is NaN from logits of
    17 on). An infinite logit has the loss of the cross-entropy, infinite where it is wrong, and for
    gamma > 0 the gradient NaN, as in plain PyTorch. A pixel whose gradient of the loss is 0 has
    gradient 0, also if its loss is NaN (backend "reference": 0 * NaN is NaN).

    Every tensor is read once forward and once backward; only the number of pixels is kept between.
    Sums are float32 (float64 for float64). Differentiable once in ``logits``.

    Raises:
        TypeError: wrong dtype or type. ValueError: shapes or devices differ, a mask or pos_weight
            that requires grad, a mask outside [0, 1] (see above), an option out of range, an
            ``ignore_index`` that the mask's dtype cannot hold. BackendError: the forced backend
            cannot run.
    """
    check_floating("logits", logits)
    options = check_focal_options(
        {
            "alpha": alpha, "gamma": gamma, "pos_weight": pos_weight,
            "ignore_index": ignore_index, "reduction": reduction,
        }
    )  # fmt: skip
    check_tensor("mask", mask)
    check_mask("mask", mask, logits, options["ignore_index"])
    check_pos_weight_device(pos_weight, logits)
    in_float32 = autocasting(logits) and logits.dtype != torch.float64
    dtype = torch.float32 if in_float32 else logits.dtype
    chosen = backends.choose("focal_loss", (logits, mask), backend)
    if chosen == "reference":
        loss = reference.focal_loss(logits, mask, **options)
    else:
        loss = backends.native(chosen)["focal"](logits, mask, dtype=dtype, **options)
    explain_nan(loss, {"mask": (mask, mask)}, options["ignore_index"])
    return loss.to(dtype)
