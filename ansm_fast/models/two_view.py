"""The ANSM that detects on two views of the image and writes what it finds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.models.bounds import check_blur, check_sizes
from ansm_fast.models.detector import TwoViewDetector, Views
from ansm_fast.models.unet import UNet, check_image, pad_to_stride
from ansm_fast.models.writer import MaskWriter
from ansm_fast.ops import clamp_project
from ansm_fast.ops.checks import check_number


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

# The map as it is applied: wholly shut below a probability of 1/12 and wholly open from 11/12 on.
# A twentieth of an attack that is let through can cost as much as all of it, and a twentieth of a
# perturbation on an image that nobody attacked would still change it.
_OPEN_GAIN, _SHUT = 1.2, 0.1


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
    """

    variant: str = "base"
    eps_d: float = 12 / 255
    jpeg_quality: int = 82
    jpeg_blur: float = 0.07
    attacked_map: bool = True

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


class TwoViewANSM(nn.Module):
    """Detects a forgery and an attack, and writes the forgery into what was attacked.

    With x the image, m(x) the mask that the detector finds on x and on what JPEG leaves of it,
    a(x) in [0, 1] the map of what was attacked and w the writer, whose values are in [-1, 1]::

        perturbation = eps_d * a(x) * w(x, m(x), jpeg(x) - x)
        defend(x) = clamp(x + perturbation, 0, 1)

    Fully convolutional, any height and width.

    Attributes:
        stride: tiles of an image must start at multiples of it to equal the whole.
        receptive_field: radius in pixels beyond which the input does not matter.
        fingerprint: hash of configuration and weights, set when loaded from or saved to a file.
        trained_for: fingerprint of the localizer that it was trained for, set when loaded from a
            file; "" if unknown. Behind another localizer an ANSM may do harm.
    """

    stride = UNet.stride

    def __init__(self, config: TwoViewConfig | None = None) -> None:
        super().__init__()
        if config is not None and not isinstance(config, TwoViewConfig):
            raise TypeError(
                f"config must be a TwoViewConfig, got {type(config).__name__}; write "
                'TwoViewANSM(TwoViewConfig(variant="base"))'
            )
        self.config = config or TwoViewConfig()
        self.fingerprint = ""
        self.trained_for = ""
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

    def look(self, image: Tensor) -> Views:
        """Run the detector on an image of any size; see ``Views``."""
        return self.detector(pad_to_stride(image, self.stride))

    def write(self, found: Views, size: tuple[int, int], attacked: Tensor | None = None) -> Tensor:
        """Perturbation (B, 3, *size) in [-eps_d, eps_d] of what ``look`` found.

        Args:
            attacked: takes the place of the map, (B, 1, H', W') or (B, 1, 1, 1).
        """
        change = None if found.change is None else found.change / self.eps_d
        delta = self.writer(found.pixels, torch.sigmoid(found.mask), change)
        if attacked is None:
            attacked = self.applied_map(found)
        delta = F.pixel_shuffle(attacked * delta, 2)
        return delta[..., : size[0], : size[1]] * self.eps_d

    def applied_map(self, found: Views) -> Tensor:
        """What the perturbation is multiplied by: (B, 1, H', W') in [0, 1]."""
        if not self.config.attacked_map:
            return torch.ones_like(found.attacked)
        probability = torch.sigmoid(found.attacked)
        return (_OPEN_GAIN * probability - _SHUT).clamp(0, 1)

    def mask_logits(self, found: Views, size: tuple[int, int]) -> Tensor:
        """Logits of the mask that the detector found, (B, 1, *size)."""
        logits = F.interpolate(found.mask, scale_factor=2.0, mode="bilinear", align_corners=False)
        return logits[..., : size[0], : size[1]]

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
        seen = image.to(self.writer.head.weight.dtype)
        return self.write(self.look(seen), (image.shape[2], image.shape[3]))

    def defend(self, image: Tensor) -> Tensor:
        """Return ``clamp(image + project(self(image), eps_d), 0, 1)``, shaped and typed as
        ``image``; errors as ``forward``."""
        perturbation = self(image)
        if image.dtype != perturbation.dtype:
            perturbation = perturbation.to(image.dtype)
        return clamp_project(image, perturbation, self.eps_d)
