"""The work that is timed: ours, eager PyTorch and torch.compile on the same tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ansm_fast.ops import channelwise_kl, dual_mask_loss, image_pack, image_unpack, pgd_step_

Work = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """``make`` gives one callable for each of "ours", "eager" and "compile"."""

    name: str
    make: Callable[[], dict[str, Work]]


def _training(loss: Callable[..., Tensor], leaves: list[Tensor]) -> Work:
    """Forward and backward, gradients dropped before each, as a training step does."""

    def work() -> None:
        for leaf in leaves:
            leaf.grad = None
        loss(*leaves).backward()

    return work


def _eager_kl(input: Tensor, target: Tensor) -> Tensor:
    p = input.flatten(2).log_softmax(2)
    q = target.flatten(2).log_softmax(2)
    return F.kl_div(q, p, log_target=True, reduction="sum") / input.numel()


def _kl(memory_format: torch.memory_format) -> dict[str, Work]:
    input, target = (torch.randn(8, 256, 64, 64).to(memory_format=memory_format) for _ in range(2))
    input.requires_grad_()
    compiled = torch.compile(_eager_kl)
    return {
        "ours": _training(lambda x: channelwise_kl(x, target), [input]),
        "eager": _training(lambda x: _eager_kl(x, target), [input]),
        "compile": _training(lambda x: compiled(x, target), [input]),
    }


def _eager_mask_loss(logits: Tensor, mask: Tensor) -> Tensor:
    bce = F.binary_cross_entropy_with_logits(logits, mask)
    p = torch.sigmoid(logits)
    overlap = (p * mask).flatten(1).sum(1)
    total = p.flatten(1).sum(1) + mask.flatten(1).sum(1)
    return bce + (1 - (2 * overlap + 1) / (total + 1)).mean()


def _dual_mask() -> dict[str, Work]:
    adv, orig = (torch.randn(8, 1, 512, 512, requires_grad=True) for _ in range(2))
    mask = (torch.rand(8, 1, 512, 512) > 0.8).float()

    def eager(a: Tensor, b: Tensor) -> Tensor:
        return _eager_mask_loss(a, mask) + _eager_mask_loss(b, mask)

    compiled = torch.compile(eager)
    return {
        "ours": _training(lambda a, b: dual_mask_loss(a, b, mask), [adv, orig]),  # type: ignore[arg-type,return-value]
        "eager": _training(eager, [adv, orig]),
        "compile": _training(compiled, [adv, orig]),
    }


def _eager_step(adv: Tensor, grad: Tensor, image: Tensor, alpha: float, eps: float) -> Tensor:
    moved = adv + alpha * grad.sign()
    return (image + (moved - image).clamp(-eps, eps)).clamp(0, 1)


def _pgd_step() -> dict[str, Work]:
    image, grad = torch.rand(8, 3, 512, 512), torch.randn(8, 3, 512, 512)
    adv = image.clone()
    compiled = torch.compile(_eager_step)
    alpha, eps = 1 / 255, 4 / 255
    return {
        "ours": lambda: pgd_step_(adv, grad, image, alpha, eps),
        "eager": lambda: adv.copy_(_eager_step(adv, grad, image, alpha, eps)),
        "compile": lambda: adv.copy_(compiled(adv, grad, image, alpha, eps)),
    }


def _pack() -> dict[str, Work]:
    images = torch.randint(0, 256, (8, 512, 512, 3), dtype=torch.uint8)

    def eager(x: Tensor) -> Tensor:
        return x.flip(-1).permute(0, 3, 1, 2).float().div(255).contiguous()

    compiled = torch.compile(eager)
    return {
        "ours": lambda: image_pack(images),
        "eager": lambda: eager(images),
        "compile": lambda: compiled(images),
    }


def _unpack() -> dict[str, Work]:
    image, noise = torch.rand(8, 3, 512, 512), torch.randn(8, 3, 512, 512) * 0.02
    eps = 8 / 255

    def eager(x: Tensor, p: Tensor) -> Tensor:
        result = (x + p.clamp(-eps, eps)).clamp(0, 1).mul(255).round().to(torch.uint8)
        return result.permute(0, 2, 3, 1).flip(-1).contiguous()

    compiled = torch.compile(eager)
    return {
        "ours": lambda: image_unpack(image, noise, eps),
        "eager": lambda: eager(image, noise),
        "compile": lambda: compiled(image, noise),
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
