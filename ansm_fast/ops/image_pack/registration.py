"""The operators of image_pack and image_unpack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.budget import Budget, split
from ansm_fast.ops.namespace import in_one_dtype, operator

FUNCTIONS = ("image_pack", "image_unpack")
SCHEMAS = {
    "image_pack": "(Tensor images, bool bgr, bool channels_last, ScalarType dtype) -> Tensor",
    # `sample_eps`, one float64 for all samples or one for each, takes the place of `eps`.
    "image_unpack": (
        "(Tensor image, Tensor? perturbation, float eps, Tensor? sample_eps, bool bounded, "
        "bool bgr) -> Tensor"
    ),
}


class ImagePack:
    def __init__(self, namespace: str, fakes: bool) -> None:
        self._forward = operator(namespace, "image_pack")
        if fakes:
            torch.library.register_fake(f"{namespace}::image_pack", self._fake)

    def __call__(
        self, images: Tensor, bgr: bool, memory_format: torch.memory_format, dtype: torch.dtype
    ) -> Tensor:
        result: Tensor = self._forward(images, bgr, memory_format == torch.channels_last, dtype)
        return result

    @staticmethod
    def _fake(images: Tensor, bgr: bool, channels_last: bool, dtype: torch.dtype) -> Tensor:
        samples, height, width, channels = images.shape
        if channels_last:
            shape = (samples, height, width, channels)
            return images.new_empty(shape, dtype=dtype).permute(0, 3, 1, 2)
        return images.new_empty((samples, channels, height, width), dtype=dtype)


class ImageUnpack:
    def __init__(self, namespace: str, fakes: bool) -> None:
        self._namespace = namespace
        self._forward = operator(namespace, "image_unpack")
        if fakes:
            torch.library.register_fake(f"{namespace}::image_unpack", self._fake)

    def __call__(
        self, image: Tensor, perturbation: Tensor | None, eps: Budget | None, bgr: bool
    ) -> Tensor:
        number, tensor = (0.0, None) if eps is None else split(eps)
        image = image.detach()
        if perturbation is not None:
            image, perturbation = in_one_dtype(self._namespace, image, perturbation.detach())
        result: Tensor = self._forward(image, perturbation, number, tensor, eps is not None, bgr)
        return result

    @staticmethod
    def _fake(
        image: Tensor,
        perturbation: Tensor | None,
        eps: float,
        sample_eps: Tensor | None,
        bounded: bool,
        bgr: bool,
    ) -> Tensor:
        samples, channels, height, width = image.shape
        return image.new_empty((samples, height, width, channels), dtype=torch.uint8)


def bind(namespace: str, *, fakes: bool) -> dict[str, Callable[..., Any]]:
    return {
        "image_pack": ImagePack(namespace, fakes),
        "image_unpack": ImageUnpack(namespace, fakes),
    }
