"""Plain PyTorch in the tensors' own dtype: the peer of DESIGN 4's rule for half types."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tools.gpu.calls import Tensors, gradients, leaves
from tools.gpu.cases import PAIRS, Case


def _kl(input: Tensor, target: Tensor, **options: Any) -> Tensor:
    temperature, alpha = options.get("temperature", 1.0), options.get("alpha", 0.0)
    log_p, log_q = ((x / temperature).flatten(2).log_softmax(2) for x in (input, target))
    if options.get("direction") == "target_input":
        log_p, log_q = log_q, log_p
    if alpha:
        p, q = log_p.exp(), log_q.exp()
        rows = (p * ((p + alpha) / (q + alpha)).log()).sum(2)
    else:
        rows = F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(2)
    batch, channels = input.shape[:2]
    divisor = {
        "sum": 1, "none": 1, "batchmean": batch, "channelmean": batch * channels,
        "mean": input.numel(),
    }[options.get("reduction", "mean")]  # fmt: skip
    return rows if options.get("reduction") == "none" else rows.sum() / divisor


def _branch(logits: Tensor, mask: Tensor, target: Tensor | None, **options: Any) -> Tensor:
    y = mask.to(logits.dtype)
    t = y if target is None else target.to(logits.dtype)
    weight = options.get("pos_weight")
    if weight is not None:
        weight = torch.as_tensor(weight, dtype=logits.dtype, device=logits.device)
    pixels = F.binary_cross_entropy_with_logits(logits, t, pos_weight=weight, reduction="none")
    p, y = logits.sigmoid().flatten(1), y.flatten(1)
    smooth = options.get("smooth", 1.0)
    dice = 1 - (2 * (p * y).sum(1) + smooth) / (p.sum(1) + y.sum(1) + smooth)
    loss = options.get("bce_weight", 1.0) * pixels.flatten(1).mean(1) + dice
    reduction = options.get("reduction", "mean")
    return loss if reduction == "none" else getattr(loss, reduction)()


def _dual_mask(logits_adv: Tensor, logits_orig: Tensor, mask: Tensor, **options: Any) -> Tensor:
    mask_orig = options.pop("mask_orig", mask)
    target, target_orig = (options.pop(f"bce_target{x}", None) for x in ("", "_orig"))
    weight = options.pop("weight_orig", 1.0)
    return _branch(logits_adv, mask, target, **options) + weight * _branch(
        logits_orig, mask_orig, target_orig, **options
    )


def _shaped(value: float | Tensor, like: Tensor) -> float | Tensor:
    if not isinstance(value, Tensor):
        return value
    return value.to(like.dtype).reshape(-1, *(1,) * (like.dim() - 1))


def _length(tensor: Tensor) -> Tensor:
    return tensor.flatten(1).norm(dim=1).reshape(-1, *(1,) * (tensor.dim() - 1))


def _project(image: Tensor, delta: Tensor, eps: float | Tensor, norm: str) -> Tensor:
    bound = _shaped(eps, image)
    if norm == "linf":
        delta = delta.minimum(torch.as_tensor(bound, dtype=delta.dtype, device=delta.device))
        delta = delta.maximum(torch.as_tensor(-bound, dtype=delta.dtype, device=delta.device))
    else:
        delta = delta * (bound / _length(delta).clamp(min=1e-7)).clamp(max=1)
    return (image + delta).clamp(0, 1)


def _clamp_project(image: Tensor, perturbation: Tensor, eps: Any, norm: str = "linf") -> Tensor:
    return _project(image, perturbation, eps, norm)


def _step_(adv: Tensor, grad: Tensor, image: Tensor, alpha: Any, eps: Any, norm: str) -> None:
    direction = grad.sign() if norm == "linf" else grad / _length(grad).clamp(min=1e-7)
    moved = adv + _shaped(alpha, adv) * direction
    adv.copy_(_project(image, moved - image, eps, norm))


def results(case: Case, tensors: Tensors) -> Tensors | None:
    """What the case gives in plain PyTorch, by the names of ``calls.results``; None if nothing."""
    given: dict[str, Any] = {k: v for k, v in case.options.items() if k not in tensors}
    if case.op == PAIRS or given.get("ignore_index") is not None or case.op.startswith("image"):
        return None
    if case.op == "pgd_step_":
        _step_(**tensors, **given)
        return {"adv": tensors["adv"]}
    if case.op == "momentum_step_":
        decay = given.pop("decay", 1.0)
        grad, momentum = tensors["grad"], tensors["momentum"]
        mean = grad.abs().flatten(1).mean(1).reshape(-1, *(1,) * (grad.dim() - 1))
        momentum.copy_(decay * momentum + grad / mean)
        rest = {k: v for k, v in tensors.items() if k != "momentum"}
        _step_(**{**rest, "grad": momentum}, **given)
        return {"adv": tensors["adv"], "momentum": momentum}
    used = leaves(case, tensors)
    if case.op == "bce_dice_loss":
        rest = {k: v for k, v in (used | given).items() if k not in ("logits", "mask")}
        target = rest.pop("bce_target", None)
        output = {"loss": _branch(used["logits"], used["mask"], target, **rest)}
    elif case.op == "dual_mask_loss":
        output = {"loss": _dual_mask(**used, **given)}
    elif case.op == "clamp_project":
        output = {"result": _clamp_project(**used, **given)}
    else:
        output = {"loss": _kl(**used, **given)}
    made = gradients(replace(case, backward="weights"), used, output)
    return {name: value.detach() for name, value in (output | made).items()}
