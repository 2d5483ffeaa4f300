"""The U-shaped body that the ANSM and the built-in localizer share.

It works on pixel-unshuffled input: full-resolution convolutions cost three times as much on a CPU
and find no more, since the 2x2 neighbourhood is kept in the channels.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.ops.checks import AUTOCAST_DEVICES
from ansm_fast.ops.value_range import check_image_range

BODY_CHANNELS = 16

# Two high-pass kernels of the spatial rich model (Fridrich & Kodovsky 2012), as in SRM-based
# localizers: second-order horizontal + vertical, and the 5x5 "KV" kernel.
_SRM = (
    (
        (0, 0, 0, 0, 0),
        (0, -1, 2, -1, 0),
        (0, 2, -4, 2, 0),
        (0, -1, 2, -1, 0),
        (0, 0, 0, 0, 0),
        4.0,
    ),
    (
        (-1, 2, -2, 2, -1),
        (2, -6, 8, -6, 2),
        (-2, 8, -12, 8, -2),
        (2, -6, 8, -6, 2),
        (-1, 2, -2, 2, -1),
        12.0,
    ),
)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Inside, autocast is off on ``device``; some, such as "meta", know none. An exported graph
    holds nothing of it."""
    if device.type not in AUTOCAST_DEVICES or torch.compiler.is_exporting():
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


class NoiseResidualFrontEnd(nn.Module):
    """RGB in [0, 1] and six clipped SRM residuals, pixel-unshuffled by 2: (B, 36, H/2, W/2).

    Under autocast the residuals are computed in float32 all the same: they are differences of a few
    grey levels, and in bfloat16 a pixel near 1 is one level away from the next number.
    """

    out_channels = 36
    kernels: Tensor

    def __init__(self) -> None:
        super().__init__()
        kernels = torch.stack([torch.tensor(rows[:5]) / rows[5] for rows in _SRM])
        self.register_buffer("kernels", kernels.repeat(3, 1, 1).unsqueeze(1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        with without_autocast(image.device):
            padded = F.pad(image, (2, 2, 2, 2), mode="replicate")
            residual = F.conv2d(padded, self.kernels.to(image.dtype), groups=3)
        # 3 grey levels to 1: strong edges say nothing about the noise.
        residual = self.bounded(residual.mul(255 / 3))
        return F.pixel_unshuffle(torch.cat([image * 2 - 1, residual], 1), 2)

    def bounded(self, residual: Tensor) -> Tensor:
        return residual.clamp(-3, 3)


def conv_block(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    """Convolution, batch normalization, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def mean_about(values: Tensor, radius: int) -> Tensor:
    """Mean of what is within ``radius`` and inside the image, rows first, then columns."""
    # A pooling of one channel has nothing to work on side by side, and walks every window. Its
    # gradient is the faster one all the same.
    if values.shape[1] == 1 and not values.requires_grad:
        return _mean_of_one(_mean_of_one(values, radius, 2), radius, 3)
    size = 2 * radius + 1
    rows = F.avg_pool2d(values, (size, 1), 1, (radius, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, size), 1, (0, radius), count_include_pad=False)


def _mean_of_one(values: Tensor, radius: int, dim: int) -> Tensor:
    """The mean along one dimension, from sums of 1, 2, 4, ... neighbors."""
    length, left = values.shape[dim], 2 * radius + 1
    beyond = (0, 0, radius, radius) if dim == 2 else (radius, radius, 0, 0)
    sums, reach, start = F.pad(values, beyond), 1, 0
    total: Tensor | None = None
    while True:
        if left & 1:
            part = sums.narrow(dim, start, length)
            total = part if total is None else total + part
            start += reach
        left >>= 1
        if not left:
            break
        rest = sums.shape[dim] - reach
        sums = sums.narrow(dim, 0, rest) + sums.narrow(dim, reach, rest)
        reach *= 2
    assert total is not None
    at = torch.arange(length, device=values.device)
    inside = at.clamp(max=radius) + at.flip(0).clamp(max=radius) + 1
    return total / inside.to(values.dtype).view((-1, 1) if dim == 2 else (-1,))


def _upsample(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2.0, mode="nearest")


class UNet(nn.Module):
    """Four levels at strides 2, 4, 8 and 16 of the image; additive skips.

    Args:
        widths: channels of the four levels.
        out_channels: channels of the output at stride 2.
        global_context: add a learned projection of the mean feature to the deepest level, so that
            each region can be compared with the whole image. Rules out tiling.
        context_radius: the mean is that of so many positions of the deepest level about each, 16
            pixels apart, instead of the whole image's; 0: the whole.
    """

    stride = 16

    def __init__(
        self,
        widths: tuple[int, int, int, int] = (24, 40, 72, 112),
        out_channels: int = BODY_CHANNELS,
        global_context: bool = False,
        context_radius: int = 0,
    ) -> None:
        super().__init__()
        w1, w2, w3, w4 = widths
        self.down1 = nn.Sequential(
            conv_block(NoiseResidualFrontEnd.out_channels, w1, kernel=1), conv_block(w1, w1)
        )
        self.down2 = nn.Sequential(conv_block(w1, w2, stride=2), conv_block(w2, w2))
        self.down3 = nn.Sequential(conv_block(w2, w3, stride=2), conv_block(w3, w3))
        self.down4 = nn.Sequential(
            conv_block(w3, w4, stride=2), conv_block(w4, w4), conv_block(w4, w4)
        )
        self.context = nn.Linear(w4, w4) if global_context else None
        self.context_radius = context_radius
        self.lateral3 = conv_block(w4, w3, kernel=1)
        self.up3 = conv_block(w3, w3)
        self.lateral2 = conv_block(w3, w2, kernel=1)
        self.up2 = conv_block(w2, w2)
        self.lateral1 = conv_block(w2, out_channels, kernel=1)
        self.skip1 = conv_block(w1, out_channels, kernel=1)
        self.up1 = conv_block(out_channels, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        level1 = self.down1(features)
        level2 = self.down2(level1)
        level3 = self.down3(level2)
        level4 = self.down4(level3)
        if self.context is not None:
            level4 = level4 + self._context(self.context, level4)
        level3 = self.up3(_upsample(self.lateral3(level4)) + level3)
        level2 = self.up2(_upsample(self.lateral2(level3)) + level2)
        return self.up1(_upsample(self.lateral1(level2)) + self.skip1(level1))

    def _context(self, project: nn.Linear, level4: Tensor) -> Tensor:
        if not self.context_radius:
            return project(level4.mean((2, 3)))[:, :, None, None]
        about = mean_about(level4, self.context_radius)
        return F.conv2d(about, project.weight[:, :, None, None], project.bias)


def pad_to_stride(image: Tensor, stride: int) -> Tensor:
    """Repeat the last row and column until height and width are multiples of ``stride``."""
    missing_y, missing_x = (-side % stride for side in image.shape[-2:])
    if missing_y or missing_x:
        image = F.pad(image, (0, missing_x, 0, missing_y), mode="replicate")
    return image


def check_image(image: Tensor, module: nn.Module) -> None:
    """Raise unless ``image`` is a floating (B, 3, H, W) tensor in [0, 1] with H, W >= 1.

    Values are read on a CPU, where that takes a thousandth of a forward; elsewhere of the first
    image that ``module`` sees, which shows the mistake of a whole program.
    """
    if not isinstance(image, Tensor):
        raise TypeError(
            f"image must be a tensor (B, 3, H, W), got {type(image).__name__}; give images of "
            "different sizes one by one, each as image.unsqueeze(0)"
        )
    if image.dim() != 4 or image.shape[1] != 3 or 0 in image.shape[2:]:
        hint = ""
        if image.dim() == 3 and image.shape[0] == 3:
            hint = "; add a batch dimension with image.unsqueeze(0)"
        elif image.dim() == 4 and image.shape[3] == 3:
            hint = "; put channels first with image.permute(0, 3, 1, 2)"
        raise ValueError(
            f"image must have shape (B, 3, H, W) with H, W >= 1, got {tuple(image.shape)}{hint}"
        )
    if not image.is_floating_point():
        raise TypeError(
            f"image must be floating point in [0, 1], got {image.dtype}; "
            "convert 8-bit images with ansm_fast.ops.image_pack"
        )
    if torch.compiler.is_compiling():
        return
    if image.device.type == "cpu" or not getattr(module, "_has_seen_an_image", False):
        check_image_range(image)
        module._has_seen_an_image = True  # type: ignore[assignment]
