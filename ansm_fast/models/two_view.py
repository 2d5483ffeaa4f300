"""The ANSM that detects on two views of the image and writes what it finds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ansm_fast.models.base import BaseANSM
from ansm_fast.models.bounds import check_blur, check_sizes
from ansm_fast.models.detector import TwoViewDetector, Views, upsampled
from ansm_fast.models.unet import pad_to_stride
from ansm_fast.models.writer import MaskWriter
from ansm_fast.ops.checks import check_number
from ansm_fast.ops.value_range import value_range


@dataclass(frozen=True)
class Size:
    """Channels of the detector's bodies and fusion, and of the writer."""

    body: tuple[int, int, int, int]
    fusion: int
    writer: int


SIZES: dict[str, Size] = {
    "tiny": Size((24, 40, 72, 112), 24, 16),
    "base": Size((40, 72, 120, 192), 32, 24),
}


@dataclass(frozen=True)
class TwoViewConfig:
    """What a two-view ANSM is.

    Attributes:
        variant: names the widths, "tiny" or "base".
        eps_d: bounds the perturbation (L-inf, image in [0, 1]).
        jpeg_quality: of the second view, which is also a direction that the writer may use; 0: the
            image is the only view.
        jpeg_blur: how much of its neighbors a pixel takes on before that compression, see
            ``JPEGResidual``.
        attacked_map: multiply the perturbation by the map of what was attacked; without it, what it
            is for, images that nobody attacked are changed too.
        shut_below: probability s of an attack, in [0, 0.5), up to which the map as it is applied is
            wholly shut; from 1 - s on it is wholly open, and linear between. A twentieth of an
            attack that is let through can cost as much as all of it, and a part of a perturbation
            on an image that nobody attacked costs more than it brings.
    """

    variant: str = "base"
    eps_d: float = 12 / 255
    jpeg_quality: int = 82
    jpeg_blur: float = 0.07
    attacked_map: bool = True
    shut_below: float = 1 / 12

    def __post_init__(self) -> None:
        if self.variant not in SIZES:
            raise ValueError(f"variant must be one of {', '.join(SIZES)}, got {self.variant!r}")
        check_number("eps_d", self.eps_d)
        if not 0 < self.eps_d <= 1:
            raise ValueError(f"eps_d must be in (0, 1], got {self.eps_d}")
        check_sizes("jpeg_quality", self.jpeg_quality, 100, least=0)
        check_blur("jpeg_blur", self.jpeg_blur)
        if not isinstance(self.attacked_map, bool):
            raise TypeError(f"attacked_map must be a bool, got {self.attacked_map!r}")
        check_number("shut_below", self.shut_below)
        if not 0 <= self.shut_below < 0.5:
            raise ValueError(f"shut_below must be in [0, 0.5), got {self.shut_below}")


def _is_shut(attacked: Tensor) -> bool:
    """Whether the map lets nothing through, so that the writer need not run.

    Looked at where that costs nothing: on a CPU, outside of graphs and where nobody differentiates.
    """
    if attacked.device.type != "cpu" or torch.is_grad_enabled():
        return False
    return value_range(attacked) == (0.0, 0.0)


class TwoViewANSM(BaseANSM):
    """Detects a forgery and an attack, and writes the forgery into what was attacked.

    With x the image, m(x) the mask that the detector finds on x and on what JPEG leaves of it,
    a(x) in [0, 1] the map of what was attacked and w the writer, whose values are in [-1, 1]::

        perturbation = eps_d * a(x) * w(x, m(x), jpeg(x) - x)
        defend(x) = clamp(x + perturbation, 0, 1)

    Attributes as of ``BaseANSM``.
    """

    def __init__(self, config: TwoViewConfig | None = None) -> None:
        super().__init__()
        if config is not None and not isinstance(config, TwoViewConfig):
            raise TypeError(
                f"config must be a TwoViewConfig, got {type(config).__name__}; write "
                'TwoViewANSM(TwoViewConfig(variant="base"))'
            )
        self.config = config or TwoViewConfig()
        size = SIZES[self.config.variant]
        quality = self.config.jpeg_quality
        self.detector = TwoViewDetector(size.body, size.fusion, quality, self.config.jpeg_blur)
        self.writer = MaskWriter(size.writer, quality > 0)

    @property
    def eps_d(self) -> float:
        return self.config.eps_d

    @property
    def receptive_field(self) -> int:
        return self.detector.receptive_field + self.writer.receptive_field

    @property
    def dtype(self) -> torch.dtype:
        return self.writer.head.weight.dtype

    @property
    def has_attack_score(self) -> bool:
        return True

    def features(self, image: Tensor) -> Views:
        """Run the detector on an image of any size; see ``Views``."""
        return self.detector(pad_to_stride(image, self.stride))

    def perturbation(
        self, features: Views, size: tuple[int, int], attacked: Tensor | None = None
    ) -> Tensor:
        """Perturbation (B, 3, *size) in [-eps_d, eps_d] of what ``features`` found.

        Args:
            attacked: takes the place of the map, (B, 1, H', W') or (B, 1, 1, 1).
        """
        if attacked is None:
            attacked = self.applied_map(features)
        if _is_shut(attacked):
            return attacked.new_zeros((len(features.mask), 3, *size))
        change = None if features.change is None else features.change / self.eps_d
        delta = self.writer(features.pixels, torch.sigmoid(features.mask), change)
        delta = F.pixel_shuffle(attacked * delta, 2)
        return delta[..., : size[0], : size[1]] * self.eps_d

    def applied_map(self, features: Views) -> Tensor:
        """What the perturbation is multiplied by: (B, 1, H', W') in [0, 1]."""
        if not self.config.attacked_map:
            return torch.ones_like(features.attacked)
        probability = torch.sigmoid(features.attacked)
        shut = self.config.shut_below
        return ((probability - shut) / (1 - 2 * shut)).clamp(0, 1)

    def detected(self, features: Views, size: tuple[int, int]) -> Tensor:
        """Logits of the mask that the detector found, (B, 1, *size)."""
        return upsampled(features.mask, size)

    def attacked_map(self, features: Views, size: tuple[int, int]) -> Tensor:
        """How sure the ANSM is that the image was attacked, (B, 1, ceil(H / 2), ceil(W / 2)) in
        [0, 1], from what ``features`` gave of an image of ``size``."""
        probability = torch.sigmoid(features.attacked)
        return probability[..., : -(-size[0] // 2), : -(-size[1] // 2)]
