"""What is timed: an op, eager PyTorch and torch.compile on the same tensors, and a copy.

The copy reads and writes as many bytes together as the op must move: what memory allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ansm_fast.ops import channelwise_kl, dual_mask_loss, image_pack, image_unpack, pgd_step_

Work = Callable[[], object]

MAPS = (8, 256, 64, 64)
LOGITS = (8, 1, 512, 512)
IMAGES = (8, 3, 512, 512)
ALPHA, STEP_EPS, UNPACK_EPS = 1 / 255, 4 / 255, 8 / 255


@dataclass(frozen=True)
class Case:
    """One op at one size.

    Args:
        inputs: makes the tensors that ``ours`` and ``eager`` take.
        bytes: minimum traffic, from the README of the op folder.
        backward: the tensors that require a gradient get theirs, too.
    """

    name: str
    inputs: Callable[[], tuple[Tensor, ...]]
    ours: Callable[..., Tensor]
    eager: Callable[..., Tensor]
    bytes: int
    backward: bool = False

    def make(self) -> dict[str, Work]:
        """A callable for each of "ours", "eager", "compile" and "copy"."""
        tensors = self.inputs()
        source, target = (torch.zeros(self.bytes // 2, dtype=torch.uint8) for _ in range(2))
        functions = {
            "ours": self.ours,
            "eager": self.eager,
            "compile": torch.compile(self.eager),
        }
        works = {name: self._work(function, tensors) for name, function in functions.items()}
        return works | {"copy": lambda: target.copy_(source)}

    def _work(self, function: Callable[..., Tensor], tensors: tuple[Tensor, ...]) -> Work:
        def forward() -> Tensor:
            return function(*tensors)

        def forward_and_backward() -> None:
            for tensor in tensors:
                tensor.grad = None  # dropped before each step, as a training does
            function(*tensors).backward()

        return forward_and_backward if self.backward else forward


def eager_kl(input: Tensor, target: Tensor) -> Tensor:
    p = input.flatten(2).log_softmax(2)
    q = target.flatten(2).log_softmax(2)
    return F.kl_div(q, p, log_target=True, reduction="sum") / input.numel()


def _maps(memory_format: torch.memory_format) -> tuple[Tensor, Tensor]:
    input, target = (torch.randn(MAPS).to(memory_format=memory_format) for _ in range(2))
    return input.requires_grad_(), target


def eager_mask_loss(logits: Tensor, mask: Tensor) -> Tensor:
    bce = F.binary_cross_entropy_with_logits(logits, mask)
    p = torch.sigmoid(logits)
    overlap = (p * mask).flatten(1).sum(1)
    total = p.flatten(1).sum(1) + mask.flatten(1).sum(1)
    return bce + (1 - (2 * overlap + 1) / (total + 1)).mean()


def eager_dual_mask(adv: Tensor, orig: Tensor, mask: Tensor) -> Tensor:
    return eager_mask_loss(adv, mask) + eager_mask_loss(orig, mask)


def _logits() -> tuple[Tensor, Tensor, Tensor]:
    adv, orig = (torch.randn(LOGITS, requires_grad=True) for _ in range(2))
    return adv, orig, (torch.rand(LOGITS) > 0.8).float()


def eager_step(adv: Tensor, grad: Tensor, image: Tensor, alpha: float, eps: float) -> Tensor:
    moved = adv + alpha * grad.sign()
    return (image + (moved - image).clamp(-eps, eps)).clamp(0, 1)


def _step(adv: Tensor, grad: Tensor, image: Tensor) -> Tensor:
    return pgd_step_(adv, grad, image, ALPHA, STEP_EPS)


def _eager_step(adv: Tensor, grad: Tensor, image: Tensor) -> Tensor:
    return adv.copy_(eager_step(adv, grad, image, ALPHA, STEP_EPS))


def _attacked() -> tuple[Tensor, Tensor, Tensor]:
    image = torch.rand(IMAGES)
    return image.clone(), torch.randn(IMAGES), image


def eager_pack(images: Tensor) -> Tensor:
    return images.flip(-1).permute(0, 3, 1, 2).float().div(255).contiguous()


def _levels() -> tuple[Tensor]:
    samples, channels, height, width = IMAGES
    return (torch.randint(0, 256, (samples, height, width, channels), dtype=torch.uint8),)


def eager_unpack(image: Tensor, noise: Tensor, eps: float) -> Tensor:
    result = (image + noise.clamp(-eps, eps)).clamp(0, 1).mul(255).round().to(torch.uint8)
    return result.permute(0, 2, 3, 1).flip(-1).contiguous()


def _unpack(image: Tensor, noise: Tensor) -> Tensor:
    return image_unpack(image, noise, UNPACK_EPS)


def _eager_unpack(image: Tensor, noise: Tensor) -> Tensor:
    return eager_unpack(image, noise, UNPACK_EPS)


def _image_and_noise() -> tuple[Tensor, Tensor]:
    return torch.rand(IMAGES), torch.randn(IMAGES) * 0.02


_FLOAT = 4
_KL_BYTES = 3 * _FLOAT * math.prod(MAPS)  # both maps read, the gradient written
# Both passes read the logits of two branches and the mask, the second writes both gradients.
_MASK_BYTES = (3 + 3 + 2) * _FLOAT * math.prod(LOGITS)
_IMAGE = math.prod(IMAGES)
CASES = {
    case.name: case
    for case in (
        Case("channelwise_kl forward+backward", lambda: _maps(torch.contiguous_format),
             channelwise_kl, eager_kl, _KL_BYTES, backward=True),
        Case("channelwise_kl channels_last", lambda: _maps(torch.channels_last),
             channelwise_kl, eager_kl, _KL_BYTES, backward=True),
        Case("dual_mask forward+backward", _logits,
             dual_mask_loss, eager_dual_mask, _MASK_BYTES, backward=True),
        Case("pgd_step_", _attacked, _step, _eager_step, 4 * _FLOAT * _IMAGE),
        Case("image_pack", _levels, image_pack, eager_pack, (1 + _FLOAT) * _IMAGE),
        Case("image_unpack", _image_and_noise, _unpack, _eager_unpack, (2 * _FLOAT + 1) * _IMAGE),
    )
}  # fmt: skip
