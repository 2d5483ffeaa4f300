"""Averaged weights: what a training is validated by and what it leaves behind."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class AveragedWeights:
    """Exponential moving average of a module's parameters and floating buffers; others are copied.

    The decay grows with the number of steps, so that early weights are soon forgotten.

    Attributes:
        module: a copy of the module, in eval mode and without gradients, with averaged weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, state: Mapping[str, Tensor], step: int) -> None:
        """Take in the weights after ``step`` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in self.module.state_dict().items():
            new = state[name].to(value.device)
            if value.is_floating_point():
                value.lerp_(new, 1 - decay)
            else:
                value.copy_(new)
