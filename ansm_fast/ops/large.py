"""What the ops' checks on more than 2**31 elements share: every index beyond must have 64 bits.

A result is compared with the same op's on a part of its tensors that small indices reach; where
a row or sample is itself that long it repeats a short one, whose result is known.
"""

from __future__ import annotations

import torch
from torch import Tensor

BEYOND = 2**31 + 2**16
PART = 1 << 12


def uniform(count: int, device: torch.device, dtype: torch.dtype, seed: int) -> Tensor:
    """Made in pieces: what PyTorch needs besides stays small."""
    generator = torch.Generator(device).manual_seed(seed)
    result = torch.empty(count, device=device, dtype=dtype)
    for piece in result.split(1 << 26):
        piece.copy_(torch.rand(piece.numel(), device=device, generator=generator))
    return result


def starts(count: int) -> list[int]:
    """First, on both sides of half, and last: where 31 and 32 bits end."""
    return [0, count // 2 - PART // 2, count - PART]


def apart(found: Tensor, expected: Tensor, bound: float) -> str | None:
    difference = float((found.double() - expected.double()).abs().max())
    size = float(expected.double().abs().max())
    if difference <= bound * size:
        return None
    return f"off by {difference:.3g} of {size:.3g}"
