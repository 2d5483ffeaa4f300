"""The Adversarial Noise Suppression Module (arXiv 2506.12871): image to defensive perturbation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.models.base import BaseANSM
from ansm_fast.models.bounds import LARGEST_WIDTH, check_blur, check_sizes
from ansm_fast.models.jpeg import JPEGResidual
from ansm_fast.models.unet import (
    BODY_CHANNELS,
    NoiseResidualFrontEnd,
    UNet,
    conv_block,
    mean_about,
    pad_to_stride,
)
from ansm_fast.ops.checks import check_number

VARIANTS: dict[str, tuple[int, int, int, int]] = {
    "tiny": (24, 40, 72, 112),
}

# Nearly open, and still where the sigmoid has a gradient.
_GATE_START = 2.0
# Whether an image was attacked is a question about a region: a pixel alone says little, and the few
# where a gate of single pixels stays shut let enough noise through to mislead the localizer.
_GATE_RADIUS = 15
# A mean changes slowly with the weights, and a gate that is half open is a poor one.
_GATE_GAIN = 4.0
# The twentieth part of an attack that a gate open to 0.95 lets through can cost as much as all of
# it: from 1 / 1.2 on the gate is wholly open.
_GATE_OPEN = 1.2


@dataclass(frozen=True)
class ANSMConfig:
    """What an ANSM is.

    Attributes:
        variant: names the widths of the body.
        eps_d: bounds the perturbation (L-inf, image in [0, 1]).
        detail: width of a layer before the head that sees pixels and noise residuals as they are
            beside the body's features; 0: the features alone. To take noise out of a pixel the
            head needs that pixel, and 16 features cannot carry twelve values and their noise.
        jpeg_quality: the perturbation is what JPEG of this quality would change, cut to eps_d,
            times a gate in [0, 1] that the network gives every 2 x 2 pixels from what it finds
            in the 62 x 62 about them, and with ``detail`` a correction beside it; 0: the network's
            own perturbation.
        jpeg_blur: how much of its neighbors a pixel takes on before that compression, see
            ``JPEGResidual``.
    """

    variant: str = "tiny"
    eps_d: float = 8 / 255
    detail: int = 0
    jpeg_quality: int = 0
    jpeg_blur: float = 0.0

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}")
        check_number("eps_d", self.eps_d)
        if not 0 < self.eps_d <= 1:
            raise ValueError(f"eps_d must be in (0, 1], got {self.eps_d}")
        check_sizes("detail", self.detail, LARGEST_WIDTH, least=0)
        check_sizes("jpeg_quality", self.jpeg_quality, 100, least=0)
        check_blur("jpeg_blur", self.jpeg_blur)


class ANSM(BaseANSM):
    """Residual U-shaped network; fully convolutional, so any height and width will do.

    ``forward`` gives the perturbation ``eps_d * tanh(head(body(image)))`` and ``defend`` the
    defended image ``clamp(image + perturbation, 0, 1)``. The head starts at zero: an untrained
    module changes nothing, and training does not begin in the flat part of the tanh.

    With ``jpeg_quality`` it is ``min(1, 1.2 * sigmoid(4 * mean(gate) + 2)) * project(jpeg(image) -
    image)``, where ``mean`` is over 31 x 31 values of the head, at half the size, and ``project``
    clamps to [-eps_d, eps_d]; with ``detail``, ``project`` of that plus ``eps_d * tanh(head)``.
    In training the gate's gradient is the sigmoid's, also where it is wholly open: training never
    meets a flat part. In eval mode it is the true one. An untrained module compresses, a known
    defence; what it learns first is where there is nothing to defend against.

    Attributes as of ``BaseANSM``.
    """

    def __init__(self, config: ANSMConfig | None = None) -> None:
        super().__init__()
        if config is not None and not isinstance(config, ANSMConfig):
            raise TypeError(
                f"config must be an ANSMConfig, got {type(config).__name__}; write "
                'ANSM(ANSMConfig(variant="tiny"))'
            )
        self.config = config or ANSMConfig()
        self.front_end = NoiseResidualFrontEnd()
        self.body = UNet(VARIANTS[self.config.variant])
        detail, quality = self.config.detail, self.config.jpeg_quality
        self.jpeg = JPEGResidual(quality, self.config.jpeg_blur) if quality else None
        seen = BODY_CHANNELS + (12 if quality else 0)
        if detail:
            seen += NoiseResidualFrontEnd.out_channels
        self.detail = conv_block(seen, detail, kernel=1) if detail else nn.Identity()
        gate, own = int(quality > 0), 12 if detail or not quality else 0
        self.head = nn.Conv2d(detail or seen, gate + own, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    @property
    def eps_d(self) -> float:
        return self.config.eps_d

    @property
    def receptive_field(self) -> int:
        return 112 + (2 * (_GATE_RADIUS + 1) if self.config.jpeg_quality else 0)

    @property
    def dtype(self) -> torch.dtype:
        return self.head.weight.dtype

    @property
    def has_attack_score(self) -> bool:
        """Whether it has a gate."""
        return self.jpeg is not None

    def features(self, image: Tensor) -> Tensor:
        """Return what the head sees, at half the size of the padded image: (B, C, H', W').

        16 channels of the body; with ``detail`` the 36 of the front end behind them; with
        ``jpeg_quality`` then the 12 of what compression would change, over eps_d.
        """
        padded = pad_to_stride(image, self.stride)
        seen = self.front_end(padded)
        found = [self.body(seen)]
        if self.config.detail:
            found.append(seen)
        if self.jpeg is not None:
            found.append(F.pixel_unshuffle(self.jpeg(padded) / self.eps_d, 2))
        return torch.cat(found, 1) if len(found) > 1 else found[0]

    def perturbation(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Perturbation (B, 3, *size) in [-eps_d, eps_d] from what ``features`` gave."""
        return self._full_size(self._delta(self.head(self.detail(features)), features), size)

    def gate_and_compression(
        self, features: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Logits of the gate, (B, 1, H', W'), and the perturbation (B, 3, *size) where it is open.

        Raises:
            ValueError: the configuration has no ``jpeg_quality``, and so no gate.
        """
        if self.jpeg is None:
            raise ValueError("this ANSM has no gate: its configuration has jpeg_quality 0")
        logits = self._gate_logits(self.head(self.detail(features)))
        return logits, self._full_size(features[:, -12:].clamp(-1, 1), size)

    def attacked_map(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """How sure the ANSM is that the image was attacked, (B, 1, ceil(H / 2), ceil(W / 2)) in
        [0, 1], from what ``features`` gave of an image of ``size``.

        The gate's sigmoid, before what is nearly open is opened wholly: it tells images apart that
        a gate cut at 1 does not.

        Raises:
            ValueError: the configuration has no ``jpeg_quality``, and so no gate.
        """
        if not self.has_attack_score:
            raise ValueError(
                "this ANSM has no gate (jpeg_quality 0), and so no attack score; use one that has"
            )
        return self._attacked(self.head(self.detail(features)), size)

    def unchecked_perturbation_and_map(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        size = (image.shape[2], image.shape[3])
        features = self.features(image.to(self.dtype))
        found = self.head(self.detail(features))  # once for both
        attacked = self._attacked(found, size) if self.has_attack_score else None
        return self._full_size(self._delta(found, features), size), attacked

    def _attacked(self, found: Tensor, size: tuple[int, int]) -> Tensor:
        gate = torch.sigmoid(self._gate_logits(found))
        return gate[..., : -(-size[0] // 2), : -(-size[1] // 2)]

    def _delta(self, found: Tensor, features: Tensor) -> Tensor:
        if self.jpeg is None:
            return torch.tanh(found)
        delta = self._gate(found) * features[:, -12:].clamp(-1, 1)
        if self.config.detail:
            delta = (delta + torch.tanh(found[:, 1:])).clamp(-1, 1)
        return delta

    def _gate(self, found: Tensor) -> Tensor:
        smooth = torch.sigmoid(self._gate_logits(found))
        gate = (_GATE_OPEN * smooth).clamp(max=1)
        return smooth + (gate - smooth).detach() if self.training else gate

    @staticmethod
    def _gate_logits(found: Tensor) -> Tensor:
        return _GATE_GAIN * mean_about(found[:, :1], _GATE_RADIUS) + _GATE_START

    def _full_size(self, delta: Tensor, size: tuple[int, int]) -> Tensor:
        return F.pixel_shuffle(delta, 2)[..., : size[0], : size[1]] * self.eps_d
