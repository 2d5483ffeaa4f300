"""What every ANSM does, whatever its network: perturbation, defended image, attack score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from ansm_fast.models.unet import UNet, check_image
from ansm_fast.ops import clamp_project


class BaseANSM(nn.Module, ABC):
    """An Adversarial Noise Suppression Module. Fully convolutional: any height and width will do.

    A subclass gives ``eps_d``, ``receptive_field``, ``dtype``, ``features``, ``perturbation`` and,
    if it can tell that an image was attacked, ``attacked_map``.

    Attributes:
        stride: tiles of an image must start at multiples of it to equal the whole.
        fingerprint: hash of configuration and weights, set when loaded from or saved to a file.
        trained_for: fingerprint of the localizer that it was trained for, set when loaded from a
            file; "" if unknown. Behind another localizer an ANSM may do harm.
        attack_threshold: ``attack_score`` from which an image is called attacked; what its training
            measured, when loaded from a file that tells it, otherwise 0.5.
    """

    stride = UNet.stride
    config: Any  # a dataclass, of each subclass its own

    def __init__(self) -> None:
        super().__init__()
        self.fingerprint = ""
        self.trained_for = ""
        self.attack_threshold = 0.5

    @property
    @abstractmethod
    def eps_d(self) -> float:
        """Bound of the perturbation (L-inf, image in [0, 1])."""

    @property
    @abstractmethod
    def receptive_field(self) -> int:
        """Radius in pixels beyond which the input does not matter."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """What images are converted to: the weights' type."""

    @property
    @abstractmethod
    def has_attack_score(self) -> bool:
        """Whether this ANSM can tell that an image was attacked."""

    @abstractmethod
    def features(self, image: Tensor) -> Any:
        """Return what ``perturbation`` and ``attacked_map`` take, of an image of any size."""

    @abstractmethod
    def perturbation(self, features: Any, size: tuple[int, int]) -> Tensor:
        """Perturbation (B, 3, *size) in [-eps_d, eps_d] from what ``features`` gave."""

    @abstractmethod
    def attacked_map(self, features: Any, size: tuple[int, int]) -> Tensor:
        """How sure the ANSM is that the image was attacked, (B, 1, ceil(H / 2), ceil(W / 2)) in
        [0, 1], from what ``features`` gave of an image of ``size``.

        Raises:
            ValueError: it cannot tell.
        """

    def forward(self, image: Tensor) -> Tensor:
        """Perturbation (B, 3, H, W), each value in [-eps_d, eps_d].

        Args:
            image: (B, 3, H, W) floating, RGB in [0, 1]. One of another dtype than the weights' is
                converted.

        Raises:
            ValueError: wrong shape, or values outside [0, 1] by more than a few ulps, or NaN. Their
            range is looked at on a CPU always, elsewhere in the first image of this module alone,
            since every look waits for the device; never while a graph is compiled or captured.
            TypeError: no floating-point tensor.
        """
        check_image(image, self)
        if image.shape[0] == 0:
            return torch.zeros_like(image)
        features = self.features(image.to(self.dtype))
        return self.perturbation(features, (image.shape[2], image.shape[3]))

    def defend(self, image: Tensor) -> Tensor:
        """Return ``clamp(image + project(self(image), eps_d), 0, 1)``, shaped and typed as
        ``image``.

        Raises:
            As ``forward``: what is outside [0, 1] is an error where it can be seen, and clamped
            where it cannot. Images of different sizes are defended one by one, or in a folder by
            ``inference.Engine``.
        """
        perturbation = self(image)
        if image.dtype != perturbation.dtype:
            perturbation = perturbation.to(image.dtype)
        return clamp_project(image, perturbation, self.eps_d)

    def attack_score(self, image: Tensor) -> Tensor:
        """Return (B,), the mean of ``attacked_map``: near 0 if an image was left alone, near 1 if
        it was attacked.

        Args:
            image: as of ``forward``.

        Raises:
            As ``forward`` and ``attacked_map``.
        """
        check_image(image, self)
        if image.shape[0] == 0:
            return image.new_zeros(0)
        size = (image.shape[2], image.shape[3])
        return self.attacked_map(self.features(image.to(self.dtype)), size).mean((1, 2, 3))

    def perturbation_and_map(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what ``forward`` gives and the ``attacked_map`` beside it, None if there is none,
        in one pass; arguments and errors as of ``forward``."""
        check_image(image, self)
        return self.unchecked_perturbation_and_map(image)

    def unchecked_perturbation_and_map(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """``perturbation_and_map`` of an image that is known to be one."""
        size = (image.shape[2], image.shape[3])
        features = self.features(image.to(self.dtype))
        found = self.attacked_map(features, size) if self.has_attack_score else None
        return self.perturbation(features, size), found
