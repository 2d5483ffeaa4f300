"""Layouts, dtypes and error measures that the op tests share."""

from __future__ import annotations

import os

import hypothesis
import pytest
import torch
from hypothesis import settings
from torch import Tensor

from ansm_fast.ops import library

# New examples at every run, but for a CI that must give the same verdict on the same commit.
settings.register_profile("ops", deadline=None, max_examples=40, derandomize="CI" in os.environ)
settings.load_profile("ops")

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
HALF = (torch.float16, torch.bfloat16)
BACKENDS = ("cpu", "reference")


class TorchRandom:
    """Lets hypothesis seed torch before every example: what failed once fails again."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


TORCH_RANDOM = TorchRandom()
hypothesis.register_random(TORCH_RANDOM)  # which keeps a weak reference only


@pytest.fixture(autouse=True)
def native_library() -> None:
    if library.PATH is None:
        pytest.skip(f"no compiled library: {library.WHY_NOT}")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same values as contiguous, channels-last, sliced (with gaps) or misaligned memory."""
    if layout == "channels_last":
        return tensor.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "gaps":
        wide = torch.zeros(*tensor.shape[:-1], tensor.shape[-1] + 3, dtype=tensor.dtype)
        wide[..., 1 : tensor.shape[-1] + 1] = tensor
        return wide[..., 1 : tensor.shape[-1] + 1]
    if layout == "misaligned":
        flat = torch.zeros(tensor.numel() + 1, dtype=tensor.dtype)
        flat[1:] = tensor.reshape(-1)
        return flat[1:].view(tensor.shape)
    return tensor.contiguous()


LAYOUTS = ("contiguous", "channels_last", "gaps", "misaligned")


def error(value: Tensor, truth: Tensor) -> float:
    """Largest error relative to the largest true value."""
    value, truth = value.detach(), truth.detach()
    scale = float(truth.abs().max()) or 1.0
    return float((value.double() - truth.double()).abs().max()) / scale
