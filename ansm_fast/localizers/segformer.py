"""A second localizer of another kind: a hierarchical transformer instead of a convolutional U-Net.

It is there to show that attacks, defence and training are not tied to one victim. The network is
Hugging Face Transformers' SegFormer (Xie et al. 2021) behind the same front end of noise
residuals, trained from nothing. A stem of convolutions comes first (Xiao et al. 2021): the strength
of noise is no linear function of it, and SegFormer's first step, which halves the size, is linear.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.errors import InputError
from ansm_fast.models.bounds import LARGEST_DEPTH, LARGEST_WIDTH, check_sizes
from ansm_fast.models.unet import (
    NoiseResidualFrontEnd,
    check_image,
    conv_block,
    pad_to_stride,
)

DEFAULT_TAPS = ("stage1", "stage2", "stage3", "stage4")


@dataclass(frozen=True)
class SegformerConfig:
    """``widths``: channels of the four stages, at strides 4, 8, 16 and 32; divisible by 1, 2, 4, 8.

    ``depths``: attention blocks of each stage. ``decoder_width``: channels of the all-MLP decoder.
    """

    widths: tuple[int, int, int, int] = (24, 48, 96, 128)
    depths: tuple[int, int, int, int] = (1, 2, 2, 2)
    decoder_width: int = 64

    def __post_init__(self) -> None:
        check_sizes("widths", self.widths, LARGEST_WIDTH, count=4)
        check_sizes("depths", self.depths, LARGEST_DEPTH, count=4)
        check_sizes("decoder_width", self.decoder_width, LARGEST_WIDTH)
        for width, heads in zip(self.widths, (1, 2, 4, 8), strict=True):
            if width % heads:
                raise ValueError(f"widths must be divisible by 1, 2, 4 and 8, got {self.widths}")


class SegformerLocalizer(nn.Module):
    """SRM residuals and RGB to mask logits by a transformer; any height and width.

    Attributes:
        taps: names of the submodules whose outputs FFA aligns: the maps of the four stages.
        fingerprint: hash of configuration and weights, set when loaded or saved.

    Raises:
        InputError: the library ``transformers`` is not installed.
    """

    taps = DEFAULT_TAPS
    logits_from = "logits"
    stride = 32

    def __init__(self, config: SegformerConfig | None = None) -> None:
        super().__init__()
        try:
            from transformers import SegformerConfig as NetworkConfig
            from transformers import SegformerForSemanticSegmentation
        except ImportError as error:
            raise InputError(
                "the SegFormer localizer needs the library transformers; "
                "install it with pip install 'ansm-fast[zoo]'"
            ) from error
        self.config = config or SegformerConfig()
        self.fingerprint = ""
        self.front_end = NoiseResidualFrontEnd()
        stem = self.config.widths[0]
        self.stem = nn.Sequential(
            conv_block(NoiseResidualFrontEnd.out_channels, stem, kernel=1), conv_block(stem, stem)
        )
        self.network = SegformerForSemanticSegmentation(
            NetworkConfig(
                num_labels=1,  # type: ignore[call-arg]
                num_channels=stem,
                hidden_sizes=list(self.config.widths),
                depths=list(self.config.depths),
                num_attention_heads=[1, 2, 4, 8],
                sr_ratios=[4, 2, 1, 1],
                patch_sizes=[3, 3, 3, 3],
                strides=[2, 2, 2, 2],
                decoder_hidden_size=self.config.decoder_width,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                classifier_dropout_prob=0.0,
                drop_path_rate=0.0,
            )
        )
        for tap in DEFAULT_TAPS:
            self.add_module(tap, nn.Identity())

    def forward(self, image: Tensor) -> Tensor:
        """Mask logits (B, 1, H, W) of an image (B, 3, H, W) in [0, 1]; > 0 means forged.

        An image of another dtype than the weights' is converted; see ``check_image`` for errors.
        """
        check_image(image, self)
        if image.shape[0] == 0:
            return image[:, :1]
        seen = image.to(next(self.stem.parameters()).dtype)
        features = self.stem(self.front_end(pad_to_stride(seen, self.stride)))
        stages = self.network.segformer(features, output_hidden_states=True).hidden_states
        stages = [getattr(self, tap)(stage) for tap, stage in zip(self.taps, stages, strict=True)]
        logits = F.interpolate(
            self.network.decode_head(stages), scale_factor=4.0, mode="bilinear", align_corners=False
        )
        return logits[..., : image.shape[2], : image.shape[3]]
