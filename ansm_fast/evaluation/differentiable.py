"""How an attacker differentiates a defence, so that adaptive attacks go through it.

A defence that only hides its gradient stops nobody: where it has none (rounding, JPEG, a median)
the backward pass takes another function's instead, near to the defence, while the forward pass
stays the real defence (BPDA, Athalye, Carlini & Wagner, ICML 2018): the identity where little is
changed, a Gaussian blur where the defence smooths. Such an attack may be weaker than one through
a true gradient, so that a row of it flatters the defence, never the other way round. Where a
defence is random, the gradient is averaged over ``DRAWS`` draws (expectation over transformation,
the same paper; ``Attack.eot``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ansm_fast.images.photograph import Image
from ansm_fast.images.tensors import to_tensor

DRAWS = 8

TensorFunction = Callable[[Tensor], Tensor]


def straight_through(
    apply: Callable[[Image], Image], near: TensorFunction | None = None
) -> TensorFunction:
    """Make the defence of 8-bit images a function of (B, 3, H, W) in [0, 1] with a gradient.

    Forward: round to 8 bits, ``apply`` to each image. Backward: that of ``near``, by default of
    the identity.
    """

    def function(image: Tensor) -> Tensor:
        levels = (image.detach() * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
        defended = np.stack([apply(one) for one in levels.contiguous().cpu().numpy()])
        nearby = image if near is None else near(image)
        return nearby + (to_tensor(defended).to(image) - nearby).detach()

    return function


def _mirrored(image: Tensor, radius: int) -> Tensor:
    """``image`` and ``radius`` more pixels on every side, mirrored at the outermost ones; torch's
    reflecting pad wants images larger than the radius, OpenCV mirrors as often as it takes."""
    if min(image.shape[2:]) > radius:
        return F.pad(image, (radius,) * 4, mode="reflect")
    for dim in (2, 3):
        period = max(1, 2 * (image.shape[dim] - 1))
        index = torch.arange(-radius, image.shape[dim] + radius, device=image.device) % period
        image = image.index_select(dim, torch.minimum(index, period - index))
    return image


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, 3, H, W) with its true gradient; the window OpenCV takes for 8 bits."""
    radius = (round(sigma * 6 + 1) | 1) // 2
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    window = torch.exp(-(offsets**2) / (2 * sigma**2))
    window = (window / window.sum()).repeat(image.shape[1], 1, 1)
    rows = F.conv2d(_mirrored(image, radius), window[:, :, None, :], groups=image.shape[1])
    return F.conv2d(rows, window[:, :, :, None], groups=image.shape[1])


def through(localizer: TensorFunction, defend: TensorFunction) -> TensorFunction:
    """Compose ``image -> localizer(defend(image))``."""
    return lambda image: localizer(defend(image))
