"""Finds forgeries under noise, and whether an image was attacked, from two views of the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.models.jpeg import JPEGResidual
from ansm_fast.models.unet import (
    BODY_CHANNELS,
    NoiseResidualFrontEnd,
    UNet,
    conv_block,
    mean_about,
)

# What compression may change in the second view, in the image's units: JPEG 82 moves few pixels by
# more, and those lie on edges.
COMPRESSION_LIMIT = 24 / 255
# Values of a 2 x 2 block of RGB, side by side at half the size.
BLOCK = 12
# Whether an image was attacked is a question about a region: radius of what is averaged, in
# pixels of half the size.
ATTACKED_RADIUS = 15
# A mean changes slowly with the weights.
_ATTACKED_GAIN = 4.0
# Positions 16 pixels apart whose mean each region is compared with: 272 pixels a side.
_CONTEXT_RADIUS = 8


class SmoothResidualFrontEnd(NoiseResidualFrontEnd):
    """The front end of the built-in localizer with residuals that saturate slowly.

    A residual of r levels becomes ``(r / 3) / (1 + |r| / 9)``, in (-3, 3), where the localizer
    cuts r / 3 at 3: the same slope at 0, the same range, and nowhere flat. Noise of 8 grey levels
    can move r by 32 (second-order kernel) and 64 levels (5 x 5 kernel), hence an output that was 0
    to 2.3 and 2.6; RGB itself moves by 0.06.
    """

    limit = 3.0

    def bounded(self, residual: Tensor) -> Tensor:
        return residual / (1 + residual.abs() / self.limit)


@dataclass(frozen=True)
class Views:
    """What a detector finds, everything at half the size of the padded image.

    Attributes:
        mask: logits of a forgery, (B, 1, H', W').
        first_mask: logits of a forgery by the image alone, (B, 1, H', W').
        attacked: logits of an attack, averaged over regions, (B, 1, H', W').
        pixels: the image's 2 x 2 blocks in [-1, 1], (B, 12, H', W').
        change: what compression would change in them, in the image's units; None without a second
            view.
    """

    mask: Tensor
    first_mask: Tensor
    attacked: Tensor
    pixels: Tensor
    change: Tensor | None

    def float(self) -> Views:
        """The same in float32, as autocast left them."""
        change = None if self.change is None else self.change.float()
        return Views(
            self.mask.float(),
            self.first_mask.float(),
            self.attacked.float(),
            self.pixels.float(),
            change,
        )


class TwoViewDetector(nn.Module):
    """Two U-shaped bodies, one for the image and one for the image as compression leaves it.

    Fine traces of a forgery stand in the image and drown in an attack's noise; compression takes
    that noise away and leaves the coarser ones. A fusion of three convolutions corrects the mean of
    both bodies' logits, and answers whether the image was attacked, which the size of the change
    tells almost alone.

    Args:
        widths: channels of the four levels of each body.
        fusion_width: channels of the fusion.
        jpeg_quality: of the second view; 0: there is only the image.
        jpeg_blur: of it, see ``JPEGResidual``.
    """

    # Radius in pixels: the bodies and what they are compared with, a convolution of the fusion, and
    # the regions at half the size.
    receptive_field = 112 + 16 * (_CONTEXT_RADIUS + 1) + 2 * (2 + ATTACKED_RADIUS + 1)

    def __init__(
        self,
        widths: tuple[int, int, int, int],
        fusion_width: int,
        jpeg_quality: int,
        jpeg_blur: float,
    ) -> None:
        super().__init__()
        self.front_end = SmoothResidualFrontEnd()
        self.body = _body(widths)
        self.classifier = nn.Conv2d(BODY_CHANNELS, 1, 1)
        seen = BODY_CHANNELS
        if jpeg_quality:
            self.jpeg = JPEGResidual(jpeg_quality, jpeg_blur)
            self.compressed_front_end = NoiseResidualFrontEnd()
            self.compressed_body = _body(widths)
            self.compressed_classifier = nn.Conv2d(BODY_CHANNELS, 1, 1)
            seen += BODY_CHANNELS + BLOCK + 1
            # Blocks of 16 pixels, their blur, and chroma's interpolation.
            self.receptive_field = self.receptive_field + 24
        self.has_second_view = bool(jpeg_quality)
        self.fusion = nn.Sequential(
            conv_block(seen, fusion_width, kernel=1),
            conv_block(fusion_width, fusion_width),
            conv_block(fusion_width, fusion_width),
        )
        self.correction = nn.Conv2d(fusion_width, 1, 1)
        self.attacked = nn.Conv2d(fusion_width, 1, 1)
        for layer in (self.correction, self.attacked):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def hold_second_view(self) -> None:
        """Keep the body of the second view as it is until the next ``train()``: it normalizes by
        its running statistics, which stay, and asks for no gradients."""
        if self.has_second_view:
            for part in (self.compressed_body, self.compressed_classifier):
                part.eval().requires_grad_(False)

    @torch.no_grad()
    def shift_attacked(self, by: float) -> None:
        """Add ``by`` to the logits of the map of what was attacked."""
        assert self.attacked.bias is not None
        self.attacked.bias.add_(by / _ATTACKED_GAIN)

    def compressed(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The second view, and the change that leads to it."""
        change = self.jpeg(image).clamp(-COMPRESSION_LIMIT, COMPRESSION_LIMIT)
        return (image + change).clamp(0, 1), change

    def forward(self, image: Tensor) -> Views:
        """Look at a batch (B, 3, H, W) in [0, 1], H and W multiples of 16."""
        own = self.body(self.front_end(image))
        first = logits = self.classifier(own)
        features, change = [own], None
        if self.has_second_view:
            with torch.no_grad():
                view, change = self.compressed(image)
            other = self.compressed_body(self.compressed_front_end(view))
            logits = (logits + self.compressed_classifier(other)) / 2
            change = F.pixel_unshuffle(change, 2)
            levels = change * 255
            energy = mean_about(levels.abs().mean(1, keepdim=True), ATTACKED_RADIUS)
            features += [other, levels / 8, energy / 4]
        found = self.fusion(torch.cat(features, 1).to(own.dtype))
        return Views(
            mask=logits + self.correction(found),
            first_mask=first,
            attacked=_ATTACKED_GAIN * mean_about(self.attacked(found), ATTACKED_RADIUS),
            pixels=F.pixel_unshuffle(image * 2 - 1, 2),
            change=change,
        )


def upsampled(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring logits of half the size, padded, to the ``size`` of the image."""
    full = F.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
    return full[..., : size[0], : size[1]]


def _body(widths: tuple[int, int, int, int]) -> UNet:
    return UNet(widths, global_context=True, context_radius=_CONTEXT_RADIUS)
