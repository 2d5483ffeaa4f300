"""A small localizer, a linear one whose optimum is known, and a batch."""

from __future__ import annotations

import importlib.util
import sys
import types

import pytest
import torch
from torch import Tensor, nn

from ansm_fast.localizers import BuiltinLocalizer, LocalizerConfig


@pytest.fixture(scope="module")
def localizer() -> BuiltinLocalizer:
    torch.manual_seed(0)
    return BuiltinLocalizer(LocalizerConfig((8, 8, 8, 8))).eval().requires_grad_(False)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Image, mask, wrong mask."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (3, 3, 48, 40), generator=generator) / 255
    mask = torch.zeros(3, 1, 48, 40)
    mask[:, :, 10:30, 8:20] = 1
    return image, mask, mask.roll(12, -1)


class Linear(nn.Module):
    """Logit of a pixel: the weighted sum of its three values. An attack's optimum is known."""

    weight = torch.tensor([0.5, -2.0, 1.0])

    def forward(self, image: Tensor) -> Tensor:
        return (image * self.weight.view(1, 3, 1, 1).to(image)).sum(1, keepdim=True)


@pytest.fixture
def linear() -> Linear:
    return Linear()


class StandIn(types.ModuleType):
    """A module that has whatever is imported from it, and none of it works."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@pytest.fixture
def stand_ins(monkeypatch) -> None:
    """torchattacks and adv_lib import model zoos and plots that no attack here uses: torchvision,
    which has to fit the installed torch, and visdom. Where they are missing, stand-ins serve."""
    for library in ("torchvision", "visdom"):
        if importlib.util.find_spec(library) is None:
            for name in (library, f"{library}.models", f"{library}.transforms"):
                monkeypatch.setitem(sys.modules, name, StandIn(name))
