"""From a case to its tensors, in every layout on any device, and to its results by name."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor

from ansm_fast import ops
from tools.gpu.cases import PAIRS, Case

Tensors = dict[str, Tensor]

DIFFERENTIABLE = {
    "channelwise_kl": ("input", "target"),
    PAIRS: ("input 0", "input 1", "target 0", "target 1"),
    "dual_mask_loss": ("logits_adv", "logits_orig"),
    "bce_dice_loss": ("logits",),
    "clamp_project": ("image", "perturbation"),
}
OVERWRITTEN = {"pgd_step_": ("adv",), "momentum_step_": ("adv", "momentum")}
_MASKS = ("mask", "mask_orig", "bce_target", "bce_target_orig")
_SPECIAL = {"-inf": -torch.inf, "inf": torch.inf, "nan": torch.nan}


def make(case: Case, seed: int = 0) -> Tensors:
    """The case's tensors, contiguous on the CPU; the same ones for the same case and seed."""
    generator = torch.Generator().manual_seed(zlib.crc32(case.name.encode()) + seed)
    if case.op in ("channelwise_kl", PAIRS):
        made = _maps(case, generator)
    elif case.op in ("dual_mask_loss", "bce_dice_loss"):
        made = _logits_and_masks(case, generator)
    else:
        made = _images(case, generator)
    for name in ("eps", "alpha"):
        if case.options.get(name) == "per sample":
            # Sixteenths are exact in every dtype: no rounding decides what a border lets pass.
            made[name] = torch.arange(case.shape[0], dtype=torch.float32) / 16
    return made


def _normal(case: Case, generator: torch.Generator, scale: float = 1.0) -> Tensor:
    return (torch.randn(case.shape, generator=generator, dtype=torch.float64) * scale).to(
        case.dtype
    )


def _uniform(case: Case, generator: torch.Generator) -> Tensor:
    return torch.rand(case.shape, generator=generator, dtype=torch.float64)


def _maps(case: Case, generator: torch.Generator) -> Tensors:
    input, target = (_normal(case, generator, 3.0) for _ in range(2))
    if "huge" in case.values:
        input, target = (x.sign() * 1e4 for x in (input, target))
    if "equal" in case.values:
        target = input.clone()
    if case.values in _SPECIAL:
        input[0, 1, :40] = _SPECIAL[case.values]
        target[1, 2, 5:9] = _SPECIAL[case.values]
        target[1, 1, 45:] = input[1, 1, 45:] = _SPECIAL[case.values]
    if case.op != PAIRS:
        return {"input": input, "target": target}
    other = (1, 2, 50, 40)
    more = [
        torch.randn(other, generator=generator, dtype=torch.float64).to(case.dtype)
        for _ in range(2)
    ]
    return {"input 0": input, "input 1": more[0], "target 0": target, "target 1": more[1]}


def _mask(kind: str, case: Case, generator: torch.Generator) -> Tensor:
    drawn = _uniform(case, generator)
    if kind == "bool":
        return drawn > 0.6
    if kind == "uint8":
        return (drawn > 0.6).byte()
    if kind == "0 and 255":
        return (drawn > 0.6).byte() * 255
    if kind.startswith("ignored"):
        mask = (drawn * 3).byte()
        if kind == "ignored sample":
            mask[0] = 2
        return mask
    return drawn.to(case.dtype)


def _logits_and_masks(case: Case, generator: torch.Generator) -> Tensors:
    made = {name: _normal(case, generator, 3.0) for name in DIFFERENTIABLE[case.op]}
    for logits in made.values():
        if case.values == "huge":
            logits.copy_(logits.sign() * 1e4)
        elif case.values in _SPECIAL:
            logits[1, 0, 2, 2] = _SPECIAL[case.values]
    for name in _MASKS:
        if name in case.options:
            made[name] = _mask(case.options[name], case, generator)
    if case.options.get("pos_weight") == "tensor":
        made["pos_weight"] = torch.tensor([2.5])
    return made


def _images(case: Case, generator: torch.Generator) -> Tensors:
    if case.op == "image_pack":
        samples, channels, height, width = case.shape
        levels = (samples, height, width, channels)
        return {"images": torch.randint(0, 256, levels, generator=generator, dtype=torch.uint8)}
    image = _uniform(case, generator)
    if case.values in ("levels", "halves"):
        image = ((image * 255).floor() + (0.5 if case.values == "halves" else 0.0)) / 255
    made = {"image": image.to(case.dtype)}
    perturbation = _normal(case, generator, 0.1)
    if case.op == "clamp_project":
        made["perturbation"] = perturbation
    elif case.op == "image_unpack":
        if case.options.get("eps") != "none":
            made["perturbation"] = perturbation * (0 if case.values == "halves" else 0.5)
    else:
        zero = case.options["eps"] == 0 or case.values in ("zero", "levels")
        moved = made["image"] + perturbation * (0 if zero else 0.2)
        made |= {"adv": moved.clamp(0, 1), "grad": _normal(case, generator)}
        if case.op == "momentum_step_":
            made["momentum"] = _normal(case, generator) * (0 if zero else 1)
        if case.values == "zero":
            made["grad"] *= 0
    if case.values in _SPECIAL:
        changed = "perturbation" if case.op == "clamp_project" else "grad"
        made[changed][0, 0, 0, 0] = _SPECIAL[case.values]
        made["image"][1, 0, 2, 2] = _SPECIAL[case.values]
    return made


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same values as contiguous, channels-last, sliced (with gaps) or misaligned memory."""
    if layout == "channels_last" and tensor.dim() >= 3:
        return tensor.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "gaps" and tensor.dim() >= 1:
        wide = tensor.new_zeros(*tensor.shape[:-1], tensor.shape[-1] + 3)
        wide[..., 1 : tensor.shape[-1] + 1] = tensor
        return wide[..., 1 : tensor.shape[-1] + 1]
    if layout == "misaligned":
        flat = tensor.new_zeros(tensor.numel() + 1)
        flat[1:] = tensor.reshape(-1)
        return flat[1:].view(tensor.shape)
    return tensor.contiguous()


def placed(tensors: Tensors, layout: str, device: torch.device) -> Tensors:
    """Copies of the tensors on a device; budgets and weights stay contiguous."""
    small = ("eps", "alpha", "pos_weight")
    return {
        name: tensor.to(device, copy=True)
        if name in small
        else laid_out(tensor.to(device, copy=True), layout)
        for name, tensor in tensors.items()
    }


def in_double(tensors: Tensors) -> Tensors:
    return {k: t.double() if t.is_floating_point() else t.clone() for k, t in tensors.items()}


def forward(case: Case, tensors: Tensors, backend: str) -> Tensors:
    """What the call returns or overwrites. Without a copy, so that it can be captured."""
    given: dict[str, Any] = {k: v for k, v in case.options.items() if k not in tensors}
    given |= tensors
    given["backend"] = backend
    if case.op == PAIRS:
        input, target = ([given.pop(f"{x} {i}") for i in range(2)] for x in ("input", "target"))
        loss = ops.channelwise_kl(input, target, **given)
        if isinstance(loss, list):
            return {f"loss {i}": rows for i, rows in enumerate(loss)}
        return {"loss": loss}
    if case.op in ("dual_mask_loss", "bce_dice_loss"):
        loss, components = getattr(ops, case.op)(**given, return_components=True)
        return {"loss": loss, "components": components}
    if case.options.get("eps") == "none":
        del given["eps"]
    result = getattr(ops, case.op)(**given)
    if case.op in OVERWRITTEN:
        return {name: tensors[name] for name in OVERWRITTEN[case.op]}
    return {"loss" if case.op == "channelwise_kl" else "result": result}


def grad_output(result: Tensor, backward: str) -> Tensor:
    """What the gradient of a result is weighted by: exact in every dtype."""
    if backward == "ones":
        return torch.ones_like(result)
    weights = torch.arange(1, result.numel() + 1, device=result.device) % 4 + 1
    if backward == "scaled":
        weights = weights * 2048
    return (weights / 2).to(result.dtype).reshape(result.shape)


def leaves(case: Case, tensors: Tensors) -> Tensors:
    """The tensors, those that a gradient is taken in as leaves on the same memory."""
    wanted = DIFFERENTIABLE.get(case.op, ())
    return {k: t.detach().requires_grad_() if k in wanted else t for k, t in tensors.items()}


def gradients(case: Case, tensors: Tensors, outputs: Tensors) -> Tensors:
    """The gradients of what ``forward`` returned in its differentiable tensors."""
    wanted = DIFFERENTIABLE.get(case.op, ())
    results = [result for result in outputs.values() if result.requires_grad]
    if not wanted or not results:
        return {}
    weights = [grad_output(result, case.backward) for result in results]
    inputs = [tensors[name] for name in wanted]
    twice = case.backward == "twice"
    found = torch.autograd.grad(results, inputs, weights, retain_graph=twice)
    made = {f"gradient of {name}": value for name, value in zip(wanted, found, strict=True)}
    if twice:
        again = torch.autograd.grad(results, inputs, weights)
        made |= {f"gradient of {k}, again": v for k, v in zip(wanted, again, strict=True)}
    return made


def results(case: Case, tensors: Tensors, backend: str, backward: bool = True) -> Tensors:
    """Everything a call gives, with the gradients; the tensors' own memory is worked on."""
    used = leaves(case, tensors) if backward else tensors
    outputs = forward(case, used, backend)
    made = gradients(case, used, outputs) if backward else {}
    return {name: value.detach() for name, value in (outputs | made).items()}
