"""8-bit images to planar real numbers and back."""

from __future__ import annotations

import torch
from torch import Tensor

from ansm_fast.ops import backends
from ansm_fast.ops.budget import Budget
from ansm_fast.ops.checks import check_budget, check_floating, check_same, check_tensor
from ansm_fast.ops.dtypes import FLOATING
from ansm_fast.ops.image_pack import reference

MEMORY_FORMATS = (torch.contiguous_format, torch.channels_last)


def _check_order(bgr: object) -> None:
    # Any other object is true: "rgb" would mean BGR.
    if not isinstance(bgr, bool):
        raise TypeError(f"bgr must be True or False, got {bgr!r}; False is for RGB")


def image_pack(
    images: Tensor,
    *,
    bgr: bool = True,
    memory_format: torch.memory_format = torch.contiguous_format,
    dtype: torch.dtype = torch.float32,
    backend: str | None = None,
) -> Tensor:
    """Convert uint8 (N, H, W, 3) to (N, 3, H, W) RGB in [0, 1]: ``level / 255``, rounded once.

    Args:
        images: uint8 (N, H, W, 3), as OpenCV (``bgr=True``) or Pillow (``bgr=False``) decode.
        bgr: whether the bytes are in the order blue, green, red.
        memory_format: ``torch.contiguous_format`` or ``torch.channels_last`` of the result.
        dtype: float32, float16, bfloat16 or float64.
        backend: "cpu", "reference", ...; by default the first that can run.

    Raises:
        TypeError: not uint8, a dtype that isn't floating, or bgr is no bool. ValueError: wrong
            shape or memory format. BackendError: the forced backend cannot run.
    """
    check_tensor("images", images)
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    if images.dim() != 4 or images.shape[3] != 3:
        raise ValueError(f"images must have shape (N, H, W, 3), got {tuple(images.shape)}")
    _check_order(bgr)
    if memory_format not in MEMORY_FORMATS:
        raise ValueError(
            f"memory_format must be torch.contiguous_format or torch.channels_last, "
            f"got {memory_format}"
        )
    if dtype not in FLOATING:
        raise TypeError(f"dtype must be float32, float16, bfloat16 or float64, got {dtype}")
    chosen = backends.choose("image_pack", (images,), backend)
    if chosen != "reference":
        return backends.native(chosen)["image_pack"](images, bgr, memory_format, dtype)
    return reference.image_pack(images, bgr=bgr, memory_format=memory_format, dtype=dtype)


def image_unpack(
    image: Tensor,
    perturbation: Tensor | None = None,
    eps: Budget | None = None,
    *,
    bgr: bool = True,
    backend: str | None = None,
) -> Tensor:
    """Add a perturbation to (N, 3, H, W) RGB and convert to uint8 (N, H, W, 3), in one pass::

        levels = round(255 * clamp(image + clip(perturbation, -eps, eps), 0, 1))

    Rounding is to nearest, half to even; NaN gives 0. Where ``eps`` is given, no level differs
    from the image's own by more than floor(255 * eps): the budget holds exactly in 8 bits. (An
    eps that falls short of a whole number of levels by less than a thousandth counts as whole,
    since eps may have been rounded to a half type.)

    Args:
        image: (N, 3, H, W), float32, float16, bfloat16 or float64; clamped to [0, 1].
        perturbation: same shape and dtype; None adds nothing.
        eps: bound of the perturbation, >= 0, a number or a tensor of shape () or (N,); None: no
            bound.
        bgr: whether the bytes come in the order blue, green, red.
        backend: "cpu", "reference", ...; by default the first that can run.

    Raises:
        TypeError: wrong dtype, or bgr is no bool. ValueError: wrong shape, devices differ, eps < 0,
            eps without a perturbation. BackendError: the forced backend cannot run.
    """
    check_floating("image", image)
    if image.dim() != 4 or image.shape[1] != 3:
        raise ValueError(f"image must have shape (N, 3, H, W), got {tuple(image.shape)}")
    _check_order(bgr)
    if perturbation is not None:
        check_same("perturbation", perturbation, "image", image)
    elif eps is not None:
        raise ValueError("eps bounds a perturbation, but perturbation is None; leave out eps")
    if eps is not None:
        check_budget("eps", eps, image)
    tensors = (image,) if perturbation is None else (image, perturbation)
    chosen = backends.choose("image_unpack", tensors, backend)
    if chosen != "reference":
        return backends.native(chosen)["image_unpack"](image, perturbation, eps, bgr)
    return reference.image_unpack(image, perturbation, eps, bgr=bgr)
