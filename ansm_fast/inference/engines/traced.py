"""An ANSM as other runtimes take it over: traced, with height and width that stay variables."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ansm_fast.inference.faster import with_faster_parts
from ansm_fast.inference.optimize import for_inference
from ansm_fast.models import BaseANSM

# What a trace is made with: sides that differ, and more than one block of everything.
EXAMPLE_SIZE = (1, 3, 64, 96)


class Traceable(nn.Module):
    """Image, sides multiples of the stride, to perturbation and, where there is one, attacked map,
    as a tuple of tensors."""

    def __init__(self, ansm: BaseANSM) -> None:
        super().__init__()
        network = with_faster_parts(for_inference(ansm).float(), merged=False)
        self.network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found = self.network.unchecked_perturbation_and_map(image)
        return tuple(part for part in found if part is not None)


def example() -> Tensor:
    """An image to trace with."""
    return torch.rand(EXAMPLE_SIZE, generator=torch.Generator().manual_seed(0))
