"""An ANSM as one function of an image batch, written so that every size stays a variable."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.errors import InputError
from ansm_fast.inference.optimize import for_inference
from ansm_fast.models import BaseANSM
from ansm_fast.models.jpeg import JPEGResidual, rounded

# What a graph may give, in the order in which it does by default.
OUTPUTS = ("defended", "attacked_map", "attack_score", "perturbation")


class ExportableANSM(nn.Module):
    """Image (B, 3, H, W) float32, RGB in [0, 1], to the tensors named by ``outputs``.

    Any H and W from 1 on: padding to the ANSM's stride is part of it. There is no check of values,
    and nothing but operators of PyTorch.

    Args:
        ansm: is copied, with batch normalization folded into its convolutions.
        outputs: of "defended" (B, 3, H, W) in [0, 1], "perturbation" (B, 3, H, W), "attacked_map"
            (B, 1, ceil(H / 2), ceil(W / 2)) and "attack_score" (B,), the mean of that map; by
            default all but the perturbation, as far as the ANSM has them.

    Raises:
        InputError: no such output, or one that this ANSM cannot give.
    """

    def __init__(self, ansm: BaseANSM, outputs: Sequence[str] | None = None) -> None:
        super().__init__()
        if not isinstance(ansm, BaseANSM):
            raise TypeError(f"ansm must be an ANSM, got {type(ansm).__name__}; see load_ansm")
        self.outputs = _checked(ansm, outputs)
        # Of weights in channels_last order, images of one block would be another case.
        plain = for_inference(ansm).float().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.ansm = _with_strided_jpeg(plain)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        height, width = image.shape[2:]
        padded = _padded(image, self.ansm.stride)
        features = self.ansm.features(padded)
        found: dict[str, Tensor] = {}
        if {"defended", "perturbation"} & {*self.outputs}:
            perturbation = self.ansm.perturbation(features, (height, width))
            found["perturbation"] = perturbation
            found["defended"] = (image + perturbation).clamp(0, 1)
        if {"attacked_map", "attack_score"} & {*self.outputs}:
            whole = self.ansm.attacked_map(features, (padded.shape[2], padded.shape[3]))
            # Of negative numbers, ONNX rounds quotients the other way than Python.
            attacked = whole[..., : (height + 1) // 2, : (width + 1) // 2]
            found["attacked_map"] = attacked
            found["attack_score"] = attacked.mean((1, 2, 3))
        return tuple(found[name] for name in self.outputs)


def _checked(ansm: BaseANSM, outputs: Sequence[str] | None) -> tuple[str, ...]:
    possible = tuple(
        name for name in OUTPUTS if ansm.has_attack_score or not name.startswith("attack")
    )
    if outputs is None:
        return tuple(name for name in possible if name != "perturbation")
    if isinstance(outputs, str) or not outputs or len({*outputs}) < len(outputs):
        raise InputError(f"outputs must be some of {', '.join(possible)}, got {outputs!r}")
    for name in outputs:
        if name not in OUTPUTS:
            raise InputError(f"outputs must be some of {', '.join(possible)}, got {name!r}")
        if name not in possible:
            raise InputError(
                f"outputs: this ANSM cannot tell whether an image was attacked and gives no "
                f"{name}; robust and two_view can"
            )
    return tuple(outputs)


def _padded(image: Tensor, stride: int) -> Tensor:
    """The same as ``pad_to_stride`` without a question about the size, to which a graph of all
    sizes has no answer."""

    def rows(side: int) -> Tensor:
        return torch.arange((side + stride - 1) // stride * stride, device=image.device)

    height, width = image.shape[2:]
    tall = image.index_select(2, rows(height).clamp(max=height - 1))
    return tall.index_select(3, rows(width).clamp(max=width - 1))


class _StridedJPEG(JPEGResidual):
    """The same convolutions on the image itself instead of its blocks side by side, whose strides
    are another case for images of a single block."""

    def _quantized(self, planes: Tensor, steps: Tensor) -> Tensor:
        basis = self.cosines.view(64, 1, 8, 8)
        coefficients = rounded(F.conv2d(planes, basis, stride=8) / steps)
        return rounded(F.conv_transpose2d(coefficients * steps, basis, stride=8))


def _with_strided_jpeg(ansm: BaseANSM) -> BaseANSM:
    for name, module in list(ansm.named_modules()):
        if type(module) is JPEGResidual:
            strided = _StridedJPEG(module.quality, module.blur).to(module.cosines.device)
            ansm.set_submodule(name, strided.eval())
    return ansm
