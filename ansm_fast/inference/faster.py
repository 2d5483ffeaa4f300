"""Parts of the networks written for inference on a CPU: the same results but for the order of sums,
with fewer passes over memory."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.models.detector import SmoothResidualFrontEnd
from ansm_fast.models.jpeg import ROUND_UP, JPEGResidual
from ansm_fast.models.unet import NoiseResidualFrontEnd

Module = TypeVar("Module", bound=nn.Module)


def with_faster_parts(network: Module, *, merged: bool = True) -> Module:
    """``network`` itself, as ``for_inference`` gives it, with its front ends and its JPEG replaced
    and, with ``merged``, its convolutions; it learns nothing any more."""
    for name, part in list(network.named_modules()):
        if merged and isinstance(part, nn.Sequential):
            _merge_activations(part)
        if type(part) in (NoiseResidualFrontEnd, SmoothResidualFrontEnd):
            network.set_submodule(name, _BlockFrontEnd(part))
        elif type(part) is JPEGResidual:
            network.set_submodule(name, _PlanarJPEG(part))
    return network


def _merge_activations(layers: nn.Sequential) -> None:
    """Convolutions with the ReLU behind them in one step."""
    for index, layer in enumerate(layers):
        if type(layer) is not nn.Conv2d or layer.padding_mode != "zeros":
            continue
        after = index + 1
        while after < len(layers) and isinstance(layers[after], nn.Identity):
            after += 1
        if after < len(layers) and isinstance(layers[after], nn.ReLU):
            if layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.groups == 1:
                layers[index] = _PointwiseReLU(layer)
            elif hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
                layers[index] = _ConvolutionReLU(layer)
            else:
                continue
            layers[after] = nn.Identity()


class _PointwiseReLU(nn.Module):
    """A convolution of single pixels as a product of matrices."""

    weight: Tensor
    bias: Tensor

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer("weight", convolution.weight.detach().flatten(1).T.contiguous())
        bias = convolution.bias
        zeros = torch.zeros(convolution.out_channels, dtype=convolution.weight.dtype)
        self.register_buffer("bias", zeros if bias is None else bias.detach())

    def forward(self, features: Tensor) -> Tensor:
        pixels = features.permute(0, 2, 3, 1)
        found = torch.addmm(self.bias, pixels.reshape(-1, pixels.shape[3]), self.weight).relu_()
        return found.view(*pixels.shape[:3], -1).permute(0, 3, 1, 2)


class _ConvolutionReLU(nn.Module):
    """A convolution and its ReLU as oneDNN does both at once, for float32 on a CPU."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.of = convolution

    def forward(self, features: Tensor) -> Tensor:
        of = self.of
        place = of.padding, of.stride, of.dilation, of.groups
        return torch.ops.mkldnn._convolution_pointwise(
            features, of.weight, of.bias, *place, "relu", [], ""
        )


class _BlockFrontEnd(nn.Module):
    """``NoiseResidualFrontEnd`` as one dense convolution of 2 x 2 blocks: convolutions of one
    channel are many times slower than their arithmetic."""

    kernels: Tensor

    def __init__(self, front_end: NoiseResidualFrontEnd) -> None:
        super().__init__()
        self.bounded = front_end.bounded
        self.is_cut = type(front_end) is NoiseResidualFrontEnd
        weights = torch.zeros(24, 12, 3, 3, dtype=torch.float64)
        # Blocks hold the values of a channel side by side: row by row, in each row by column.
        for residual, kernel in enumerate(front_end.kernels.double()[:, 0]):
            first = 4 * (residual // 2)
            for row in range(2):
                for column in range(2):
                    place = weights[4 * residual + 2 * row + column]
                    for y in range(5):
                        for x in range(5):
                            (up, inner_y), (left, inner_x) = (
                                divmod(row + y, 2),
                                divmod(column + x, 2),
                            )
                            place[first + 2 * inner_y + inner_x, up, left] = kernel[y, x]
        dense = (weights * (255 / 3)).to(front_end.kernels)
        self.register_buffer("kernels", dense.contiguous(memory_format=torch.channels_last))

    def forward(self, image: Tensor) -> Tensor:
        padded = F.pad(image, (2, 2, 2, 2), mode="replicate")
        blocks = F.pixel_unshuffle(padded, 2)
        residuals = F.conv2d(blocks, self.kernels)
        own = blocks[:, :, 1:-1, 1:-1]
        if torch.jit.is_tracing():  # graphs know no results that are written in place
            return torch.cat([own * 2 - 1, self.bounded(residuals)], 1)
        shape = (len(own), 36, *own.shape[2:])
        found = torch.empty(
            shape, dtype=own.dtype, device=own.device, memory_format=torch.channels_last
        )
        torch.mul(own, 2, out=found[:, :12]).sub_(1)
        if self.is_cut:
            torch.clamp(residuals, -3, 3, out=found[:, 12:])
        else:
            found[:, 12:] = self.bounded(residuals)
        return found


class _PlanarJPEG(nn.Module):
    """``JPEGResidual`` on planes: blurs along rows and columns, and products of matrices."""

    cosines: Tensor
    luminance: Tensor
    chrominance: Tensor
    to_ycbcr: Tensor
    to_rgb: Tensor

    def __init__(self, jpeg: JPEGResidual) -> None:
        super().__init__()
        self.blur = jpeg.blur
        self.register_buffer("cosines", jpeg.cosines.reshape(64, 64).contiguous())
        for name in ("luminance", "chrominance"):
            self.register_buffer(name, getattr(jpeg, name).reshape(1, 64))
        for name in ("to_ycbcr", "to_rgb"):
            self.register_buffer(name, getattr(jpeg, name).reshape(3, 3))

    def _blurred(self, levels: Tensor) -> Tensor:
        padded = F.pad(levels, (1, 1, 1, 1), mode="replicate")
        rows = padded[:, :, :-2] + padded[:, :, 2:]
        rows = rows.mul_(self.blur).add_(padded[:, :, 1:-1], alpha=1 - 2 * self.blur)
        columns = rows[..., :-2] + rows[..., 2:]
        return columns.mul_(self.blur).add_(rows[..., 1:-1], alpha=1 - 2 * self.blur)

    def _quantized(self, planes: Tensor, steps: Tensor) -> Tensor:
        count, height, width = planes.shape
        blocks = planes.view(count, height // 8, 8, width // 8, 8).transpose(2, 3).reshape(-1, 64)
        coefficients = _whole(torch.matmul(blocks, self.cosines.T).div_(steps)).mul_(steps)
        restored = _whole(torch.matmul(coefficients, self.cosines))
        restored = restored.view(count, height // 8, width // 8, 8, 8).transpose(2, 3)
        return restored.reshape(count, height, width)

    def forward(self, image: Tensor) -> Tensor:
        batch, _, height, width = image.shape
        plain = image.float().contiguous()
        levels = plain * 255
        if self.blur > 0:
            levels = _whole(self._blurred(levels))
        planes = _whole(torch.matmul(self.to_ycbcr, levels.view(batch, 3, -1)))
        planes = planes.view(batch, 3, height, width)
        light = self._quantized(planes[:, 0] - 128, self.luminance)
        half = _whole(F.avg_pool2d(planes[:, 1:], 2)).view(-1, height // 2, width // 2)
        color = self._quantized(half, self.chrominance).view(batch, 2, height // 2, width // 2)
        color = F.interpolate(color, scale_factor=2.0, mode="bilinear")
        if torch.jit.is_tracing():
            planes = torch.cat([(light[:, None] + 128).clamp(0, 255), _whole(color)], 1)
        else:
            torch.add(light, 128, out=planes[:, 0]).clamp_(0, 255)
            planes[:, 1:] = _whole(color)
        decoded = torch.matmul(self.to_rgb, planes.view(batch, 3, -1)).clamp_(0, 255)
        return _whole(decoded).div_(255).view_as(planes).sub_(plain).to(image.dtype)


def _whole(values: Tensor) -> Tensor:
    """``values`` itself, rounded as ``JPEGResidual`` rounds."""
    return (
        values.add_(ROUND_UP).floor_()
        if not torch.jit.is_tracing()
        else torch.floor(values + ROUND_UP)
    )
