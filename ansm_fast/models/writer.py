"""Writes a mask into an image, faintly, so that a frozen localizer shows it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ansm_fast.models.detector import BLOCK

_DILATIONS = (1, 1, 2, 4, 1)


class MaskWriter(nn.Module):
    """Five convolutions from a mask, the image and what compression would change to a perturbation.

    ``tanh(own) + strength * change``, cut to [-1, 1], in units of the bound: ``own`` is free, and
    compression's change is a direction that may be used.

    Args:
        width: channels between the convolutions.
        sees_change: whether there is a change to see and to use.
    """

    # Radius in pixels: the dilations and the head, at half the size, and a block.
    receptive_field = 2 * (sum(_DILATIONS) + 1) + 2

    def __init__(self, width: int, sees_change: bool) -> None:
        super().__init__()
        self.sees_change = sees_change
        layers: list[nn.Module] = []
        inputs = BLOCK + 1 + (BLOCK if sees_change else 0)
        for dilation in _DILATIONS:
            convolution = nn.Conv2d(inputs, width, 3, padding=dilation, dilation=dilation)
            # There is no normalization: with PyTorch's default initialization features shrink from
            # layer to layer, and training does not begin.
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
            layers += [convolution, nn.ReLU(inplace=True)]
            inputs = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Conv2d(width, BLOCK + int(sees_change), 3, padding=1)
        nn.init.normal_(self.head.weight, std=0.01)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(self, pixels: Tensor, probability: Tensor, change: Tensor | None) -> Tensor:
        """Perturbation in [-1, 1], (B, 12, H', W').

        Args:
            pixels: blocks of the image in [-1, 1], (B, 12, H', W').
            probability: of a forgery, (B, 1, H', W').
            change: what compression would change, over the bound, (B, 12, H', W').
        """
        seen = [pixels, probability * 2 - 1]
        if change is not None:
            change = change.clamp(-1, 1)
            seen.append(change)
        found = self.head(self.layers(torch.cat(seen, 1)))
        own = torch.tanh(found[:, :BLOCK])
        if change is None:
            return own
        return (own + torch.tanh(found[:, BLOCK:]) * change).clamp(-1, 1)
