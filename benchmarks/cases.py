"""The work that is timed: ours, eager PyTorch and torch.compile on the same tensors."""

from __future__ import annotations

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
    """``make`` gives one callable for each of "ours", "eager" and "compile"."""

    name: str
    make: Callable[[], dict[str, Work]]


def training(loss: Callable[..., Tensor], leaves: list[Tensor]) -> Work:
    """Forward and backward, gradients dropped before each, as a training step does."""

    def work() -> None:
        for leaf in leaves:
            leaf.grad = None
        loss(*leaves).backward()

    return work


def eager_kl(input: Tensor, target: Tensor) -> Tensor:
    p = input.flatten(2).log_softmax(2)
    q = target.flatten(2).log_softmax(2)
    return F.kl_div(q, p, log_target=True, reduction="sum") / input.numel()


def _kl(memory_format: torch.memory_format) -> dict[str, Work]:
    input, target = (torch.randn(MAPS).to(memory_format=memory_format) for _ in range(2))
    input.requires_grad_()
    compiled = torch.compile(eager_kl)
    return {
        "ours": training(lambda x: channelwise_kl(x, target), [input]),
        "eager": training(lambda x: eager_kl(x, target), [input]),
        "compile": training(lambda x: compiled(x, target), [input]),
    }


def eager_mask_loss(logits: Tensor, mask: Tensor) -> Tensor:
    bce = F.binary_cross_entropy_with_logits(logits, mask)
    p = torch.sigmoid(logits)
    overlap = (p * mask).flatten(1).sum(1)
    total = p.flatten(1).sum(1) + mask.flatten(1).sum(1)
    return bce + (1 - (2 * overlap + 1) / (total + 1)).mean()


def _dual_mask() -> dict[str, Work]:
    adv, orig = (torch.randn(LOGITS, requires_grad=True) for _ in range(2))
    mask = (torch.rand(LOGITS) > 0.8).float()

    def eager(a: Tensor, b: Tensor) -> Tensor:
        return eager_mask_loss(a, mask) + eager_mask_loss(b, mask)

    compiled = torch.compile(eager)
    return {
        "ours": training(lambda a, b: dual_mask_loss(a, b, mask), [adv, orig]),  # type: ignore[arg-type,return-value]
        "eager": training(eager, [adv, orig]),
        "compile": training(compiled, [adv, orig]),
    }


def eager_step(adv: Tensor, grad: Tensor, image: Tensor, alpha: float, eps: float) -> Tensor:
    moved = adv + alpha * grad.sign()
    return (image + (moved - image).clamp(-eps, eps)).clamp(0, 1)


def _pgd_step() -> dict[str, Work]:
    image, grad = torch.rand(IMAGES), torch.randn(IMAGES)
    adv = image.clone()
    compiled = torch.compile(eager_step)
    return {
        "ours": lambda: pgd_step_(adv, grad, image, ALPHA, STEP_EPS),
        "eager": lambda: adv.copy_(eager_step(adv, grad, image, ALPHA, STEP_EPS)),
        "compile": lambda: adv.copy_(compiled(adv, grad, image, ALPHA, STEP_EPS)),
    }


def eager_pack(images: Tensor) -> Tensor:
    return images.flip(-1).permute(0, 3, 1, 2).float().div(255).contiguous()


def _pack() -> dict[str, Work]:
    samples, channels, height, width = IMAGES
    images = torch.randint(0, 256, (samples, height, width, channels), dtype=torch.uint8)
    compiled = torch.compile(eager_pack)
    return {
        "ours": lambda: image_pack(images),
        "eager": lambda: eager_pack(images),
        "compile": lambda: compiled(images),
    }


def eager_unpack(image: Tensor, noise: Tensor, eps: float) -> Tensor:
    result = (image + noise.clamp(-eps, eps)).clamp(0, 1).mul(255).round().to(torch.uint8)
    return result.permute(0, 2, 3, 1).flip(-1).contiguous()


def _unpack() -> dict[str, Work]:
    image, noise = torch.rand(IMAGES), torch.randn(IMAGES) * 0.02
    compiled = torch.compile(eager_unpack)
    return {
        "ours": lambda: image_unpack(image, noise, UNPACK_EPS),
        "eager": lambda: eager_unpack(image, noise, UNPACK_EPS),
        "compile": lambda: compiled(image, noise, UNPACK_EPS),
    }


CASES = {
    case.name: case
    for case in (
        Case("channelwise_kl forward+backward", lambda: _kl(torch.contiguous_format)),
        Case("channelwise_kl channels_last", lambda: _kl(torch.channels_last)),
        Case("dual_mask forward+backward", _dual_mask),
        Case("pgd_step_", _pgd_step),
        Case("image_pack", _pack),
        Case("image_unpack", _unpack),
    )
}
