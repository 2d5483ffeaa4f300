"""What JPEG compression would change in an image, as a differentiable module."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.models.bounds import check_blur
from ansm_fast.models.unet import without_autocast

# Annex K of the JPEG standard (ITU-T T.81), rows of eight.
_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
) + (99,) * 32  # fmt: skip
_TO_YCBCR = (
    (0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312),
)  # fmt: skip
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))

# Sums of a few numbers in another order must not round another way where the exact value lies
# half-way: the whole image and a tile of it would differ by a quantization step.
_TIE = 1e-4
ROUND_UP = 0.5 + _TIE


def _cosines() -> Tensor:
    """The 64 basis functions of the 8 x 8 cosine transform, orthonormal: (64, 64, 1, 1)."""
    k = torch.arange(8, dtype=torch.float64)
    rows = torch.cos(math.pi * (2 * k[None] + 1) * k[:, None] / 16) / 2
    rows[0] /= math.sqrt(2)
    return torch.einsum("ux,vy->uvxy", rows, rows).reshape(64, 64, 1, 1).float()


def _table(values: tuple[int, ...], quality: int) -> Tensor:
    """Quantization steps of a quality, as libjpeg scales them: (1, 64, 1, 1)."""
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    steps = [min(255, max(1, math.floor((value * scale + 50) / 100))) for value in values]
    return torch.tensor(steps, dtype=torch.float32).view(1, 64, 1, 1)


def rounded(values: Tensor) -> Tensor:
    """Whole numbers; the gradient passes as if nothing were rounded."""
    whole = torch.floor(values.detach() + ROUND_UP)
    return values + (whole - values.detach())


class JPEGResidual(nn.Module):
    """``jpeg(blurred(image)) - image``, colors at half resolution (4:2:0).

    ``quality`` is libjpeg's, 1 to 100. Before compression each pixel is averaged with its
    neighbors, in either direction with weights ``blur``, 1 - 2 ``blur``, ``blur``; 0, the default,
    leaves it alone. A blur of a few hundredths takes noise from the fine coefficients, so that a
    higher quality removes as much of it and keeps more of the image.

    Images are (B, 3, H, W), RGB in [0, 1], H and W multiples of 16; so is the result, in [-1, 1].
    Values are rounded to whole numbers wherever libjpeg rounds them, since a localizer sees the
    difference, and the gradient passes as if they were not (straight-through). Close to libjpeg,
    not equal: of halves, it rounds some the other way.
    """

    cosines: Tensor
    luminance: Tensor
    chrominance: Tensor
    to_ycbcr: Tensor
    to_rgb: Tensor
    kernel: Tensor

    def __init__(self, quality: int, blur: float = 0.0) -> None:
        super().__init__()
        if not 1 <= quality <= 100:
            raise ValueError(f"quality must be in 1 to 100, got {quality}")
        check_blur("blur", blur)
        self.quality, self.blur = quality, blur
        for name, value in self._constants().items():
            self.register_buffer(name, value, persistent=False)

    def _constants(self) -> dict[str, Tensor]:
        weights = torch.tensor([self.blur, 1 - 2 * self.blur, self.blur])
        constants = {
            "cosines": _cosines(),
            "luminance": _table(_LUMINANCE, self.quality),
            "chrominance": _table(_CHROMINANCE, self.quality),
            "to_ycbcr": torch.tensor(_TO_YCBCR).view(3, 3, 1, 1),
            "to_rgb": torch.tensor(_TO_RGB).view(3, 3, 1, 1),
            "kernel": torch.outer(weights, weights).expand(3, 1, 3, 3).contiguous(),
        }
        return {name: value.float() for name, value in constants.items()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> JPEGResidual:
        """Moves with the module and stays float32, in which levels are computed whatever the
        weights are: ``half()`` would round the constants."""
        super()._apply(fn, recurse)
        for name, value in self._constants().items():
            now = getattr(self, name)
            if now.dtype != torch.float32:
                setattr(self, name, value.to(now.device))
        return self

    def _quantized(self, planes: Tensor, steps: Tensor) -> Tensor:
        """(N, 1, H, W), in grey levels about 0, after its coefficients were rounded."""
        coefficients = rounded(F.conv2d(F.pixel_unshuffle(planes, 8), self.cosines) / steps)
        blocks = F.conv2d(coefficients * steps, self.cosines.transpose(0, 1))
        return rounded(F.pixel_shuffle(blocks, 8))

    def forward(self, image: Tensor) -> Tensor:
        with without_autocast(image.device):
            levels = image.float() * 255
            if self.blur > 0:
                padded = F.pad(levels, (1, 1, 1, 1), mode="replicate")
                levels = rounded(F.conv2d(padded, self.kernel, groups=3))
            planes = rounded(F.conv2d(levels, self.to_ycbcr))
            light = self._quantized(planes[:, :1] - 128, self.luminance) + 128
            half = rounded(F.avg_pool2d(planes[:, 1:], 2))
            color = self._quantized(half.reshape(-1, 1, *half.shape[2:]), self.chrominance)
            color = F.interpolate(color.view_as(half), scale_factor=2.0, mode="bilinear")
            planes = torch.cat([light.clamp(0, 255), rounded(color)], 1)
            decoded = rounded(F.conv2d(planes, self.to_rgb).clamp(0, 255))
            return (decoded / 255 - image).to(image.dtype)
