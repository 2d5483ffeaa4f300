"""The built-in localizer: noise-residual front end, U-shaped body, one logit a pixel."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.models.bounds import LARGEST_WIDTH, check_sizes
from ansm_fast.models.unet import (
    BODY_CHANNELS,
    NoiseResidualFrontEnd,
    UNet,
    check_image,
    pad_to_stride,
)

DEFAULT_TAPS = ("body.down2", "body.down3", "body.down4", "body.up3")


@dataclass(frozen=True)
class LocalizerConfig:
    """``widths``: channels of the four levels of the body."""

    widths: tuple[int, int, int, int] = (24, 40, 72, 112)

    def __post_init__(self) -> None:
        check_sizes("widths", self.widths, LARGEST_WIDTH, count=4)


class BuiltinLocalizer(nn.Module):
    """SRM residuals and RGB to mask logits; any height and width.

    Attributes:
        taps: names of the submodules whose outputs FFA aligns.
        fingerprint: hash of configuration and weights, set when loaded or saved.
    """

    taps = DEFAULT_TAPS
    # Said where it would be guessed: logits of an untrained network may all be in [0, 1].
    logits_from = "logits"

    def __init__(self, config: LocalizerConfig | None = None) -> None:
        super().__init__()
        self.config = config or LocalizerConfig()
        self.fingerprint = ""
        self.front_end = NoiseResidualFrontEnd()
        self.body = UNet(self.config.widths, global_context=True)
        self.classifier = nn.Conv2d(BODY_CHANNELS, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Mask logits (B, 1, H, W) of an image (B, 3, H, W) in [0, 1]; > 0 means forged.

        An image of another dtype than the weights' is converted; see ``check_image`` for errors.
        """
        check_image(image, self)
        if image.shape[0] == 0:
            return image[:, :1]
        seen = image.to(self.classifier.weight.dtype)
        features = self.body(self.front_end(pad_to_stride(seen, UNet.stride)))
        logits = F.interpolate(
            self.classifier(features), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        return logits[..., : image.shape[2], : image.shape[3]]
