"""The dtypes that the ops take, and the one in which each adds up."""

from __future__ import annotations

import torch

FLOATING = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def accumulation_dtype(*dtypes: torch.dtype) -> torch.dtype:
    return torch.float64 if torch.float64 in dtypes else torch.float32
