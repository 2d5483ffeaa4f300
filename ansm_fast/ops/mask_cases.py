"""The masks that cases of the losses against a mask name."""

from __future__ import annotations

import torch
from torch import Tensor

from ansm_fast.ops.cases import Case


def draw_mask(kind: str, case: Case, generator: torch.Generator) -> Tensor:
    """A mask of the kind that a case's option names."""
    values = case.uniform(generator)
    if kind == "bool":
        return values > 0.6
    if kind == "uint8":
        return (values > 0.6).byte()
    if kind == "0 and 255":
        return (values > 0.6).byte() * 255
    if kind.startswith("ignored"):
        mask = (values * 3).byte()
        if kind == "ignored sample":
            mask[0] = 2
        return mask
    return values.to(case.dtype)
