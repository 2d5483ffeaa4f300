"""8-bit images to planar float and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops import backends, reference


def image_pack(images: Tensor, *, backend: str | None = None, **options: Any) -> Tensor:
    backends.choose("image_pack", (images,), backend)
    return reference.image_pack(images, **options)


def image_unpack(
    image: Tensor, perturbation: Tensor | None = None, eps: float | torch.Tensor | None = None, *,
    backend: str | None = None, **options: Any,
) -> Tensor:
    backends.choose("image_unpack", (image,), backend)
    return reference.image_unpack(image, perturbation, eps, **options)
