"""PyTorch itself, operator by operator or compiled."""

from __future__ import annotations

import torch
from torch import Tensor

from ansm_fast.inference.engines import Network
from ansm_fast.inference.faster import with_faster_parts
from ansm_fast.inference.optimize import for_inference
from ansm_fast.models import BaseANSM


def eager_network(
    ansm: BaseANSM, device: torch.device, dtype: torch.dtype = torch.float32
) -> Network:
    """Operator by operator; on a CPU in float32 with parts that are written for it."""
    network = for_inference(ansm)
    if dtype != torch.float32:
        return _under_autocast(network.to(device), dtype)
    if device.type == "cpu" and network.dtype == torch.float32:
        network = with_faster_parts(network)
    return network.to(device).unchecked_perturbation_and_map


def compiled_network(
    ansm: BaseANSM, device: torch.device, dtype: torch.dtype = torch.float32
) -> Network:
    """By ``torch.compile``, once for all sizes; on a CPU it needs a C++ compiler."""
    network = for_inference(ansm).to(device)
    whole: Network = network.unchecked_perturbation_and_map
    if dtype != torch.float32:
        whole = _under_autocast(network, dtype)
    return torch.compile(whole, dynamic=True)


def _under_autocast(network: BaseANSM, dtype: torch.dtype) -> Network:
    """The features in ``dtype`` and what is made of them in float32, as in training: the head tells
    pixels apart by less than bfloat16 does."""

    def whole(image: Tensor) -> tuple[Tensor, Tensor | None]:
        size = (image.shape[2], image.shape[3])
        with torch.autocast(image.device.type, dtype):
            features = network.features(image)
        features = features.float()
        found = network.attacked_map(features, size) if network.has_attack_score else None
        return network.perturbation(features, size), found

    return whole
