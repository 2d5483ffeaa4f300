"""PyTorch itself, operator by operator or compiled."""

from __future__ import annotations

import torch

from ansm_fast.inference.engines import Network
from ansm_fast.inference.faster import with_faster_parts
from ansm_fast.inference.optimize import for_inference
from ansm_fast.models import BaseANSM


def eager_network(ansm: BaseANSM, device: torch.device) -> Network:
    """Operator by operator; on a CPU with parts that are written for it."""
    network = for_inference(ansm)
    if device.type == "cpu" and network.dtype == torch.float32:
        network = with_faster_parts(network)
    return network.to(device).unchecked_perturbation_and_map


def compiled_network(ansm: BaseANSM, device: torch.device) -> Network:
    """By ``torch.compile``, once for all sizes; on a CPU it needs a C++ compiler."""
    network = for_inference(ansm).to(device)
    return torch.compile(network.unchecked_perturbation_and_map, dynamic=True)
