"""A localizer that sees pixels alone: no noise residuals, no compression, no fixed filters.

What gives a forgery away has to be learned from RGB here, so that defences and attacks are not
measured on networks alone that share a front end. The network is a small DeepLabv3+ (Chen et al.
2018): residual blocks, dilated ones instead of a fourth halving, the mean of the image as context,
and a decoder that concatenates what the finer levels have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.models.bounds import LARGEST_DEPTH, LARGEST_WIDTH, check_sizes
from ansm_fast.models.unet import BODY_CHANNELS, check_image, conv_block, pad_to_stride

DEFAULT_TAPS = ("stage1", "stage2", "stage3", "context")


@dataclass(frozen=True)
class RGBConfig:
    """``widths``: channels of the three stages, at strides 2, 4 and 8.

    ``dilated_blocks``: residual blocks of the third stage after its first, with dilations 2, 4, 2,
    4 and so on. ``decoder_width``: channels of the decoder at stride 4.
    """

    widths: tuple[int, int, int] = (16, 32, 64)
    dilated_blocks: int = 2
    decoder_width: int = 24

    def __post_init__(self) -> None:
        check_sizes("widths", self.widths, LARGEST_WIDTH, count=3)
        check_sizes("dilated_blocks", self.dilated_blocks, LARGEST_DEPTH)
        check_sizes("decoder_width", self.decoder_width, LARGEST_WIDTH)


_PATCH = 4


def _frequencies(count: int) -> Tensor:
    """The first ``count`` patterns of the two-dimensional DCT of a patch, highest first."""
    place = torch.arange(_PATCH) + 0.5
    waves = torch.cos(torch.arange(_PATCH)[:, None] * place * math.pi / _PATCH)
    patterns = torch.einsum("iy,jx->ijyx", waves, waves).flatten(0, 1)
    return patterns.flip(0)[:count]


class Stem(nn.Sequential):
    """Patches of 4x4 pixels, half overlapping, to features at half the size.

    The filters are learned. They begin as the patterns of a DCT, and large: the normalization
    behind them takes their size away again, and steps of Adam are small beside it. Small random
    filters never lose the brightness, in which traces of a few grey levels drown.
    """

    def __init__(self, channels: int) -> None:
        filters = nn.Conv2d(3, channels, _PATCH, stride=2, padding=1, bias=False)
        patterns = _frequencies(channels)
        with torch.no_grad():
            filters.weight[: len(patterns)] = 16 * patterns[:, None]
        super().__init__(filters, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity (He et al. 2016); the size stays."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(features + self.second(self.first(features)))


class GlobalContext(nn.Module):
    """Adds a learned projection of the image's mean feature to every position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(features + self.project(features.mean((2, 3)))[:, :, None, None])


class RGBLocalizer(nn.Module):
    """RGB to mask logits by a dilated residual network; any height and width.

    Attributes:
        taps: names of the submodules whose outputs FFA aligns.
        fingerprint: hash of configuration and weights, set when loaded or saved.
    """

    taps = DEFAULT_TAPS
    logits_from = "logits"
    stride = 8

    def __init__(self, config: RGBConfig | None = None) -> None:
        super().__init__()
        self.config = config or RGBConfig()
        self.fingerprint = ""
        (w1, w2, w3), width = self.config.widths, self.config.decoder_width
        self.stage1 = nn.Sequential(Stem(w1), ResidualBlock(w1))
        self.stage2 = nn.Sequential(conv_block(w1, w2, stride=2), ResidualBlock(w2))
        self.stage3 = nn.Sequential(
            conv_block(w2, w3, stride=2),
            ResidualBlock(w3),
            *(ResidualBlock(w3, (2, 4)[i % 2]) for i in range(self.config.dilated_blocks)),
        )
        self.context = GlobalContext(w3)
        self.lateral2 = conv_block(w2, width, kernel=1)
        self.decoder2 = conv_block(w3 + width, width)
        self.lateral1 = conv_block(w1, BODY_CHANNELS, kernel=1)
        self.decoder1 = conv_block(width + BODY_CHANNELS, BODY_CHANNELS)
        self.classifier = nn.Conv2d(BODY_CHANNELS, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Mask logits (B, 1, H, W) of an image (B, 3, H, W) in [0, 1]; > 0 means forged.

        An image of another dtype than the weights' is converted; see ``check_image`` for errors.
        """
        check_image(image, self)
        if image.shape[0] == 0:
            return image[:, :1]
        seen = pad_to_stride(image.to(self.classifier.weight.dtype), self.stride)
        level1 = self.stage1(seen * 2 - 1)
        level2 = self.stage2(level1)
        level3 = self.context(self.stage3(level2))
        level2 = self.decoder2(_joined(level3, self.lateral2(level2)))
        level1 = self.decoder1(_joined(level2, self.lateral1(level1)))
        logits = F.interpolate(
            self.classifier(level1), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        return logits[..., : image.shape[2], : image.shape[3]]


def _joined(coarse: Tensor, fine: Tensor) -> Tensor:
    """Concatenate ``fine`` and ``coarse`` at twice its size."""
    return torch.cat([F.interpolate(coarse, scale_factor=2.0, mode="nearest"), fine], 1)
