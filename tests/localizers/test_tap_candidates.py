"""Taps that are chosen for a localizer which names none."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ansm_fast.localizers import FeatureTaps, WrappedLocalizer
from ansm_fast.localizers.tap_candidates import candidate_taps


class Stages(nn.Module):
    """Three stages of two layers each, and a head at full size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        widths = (3, 4, 6, 8)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.ReLU(inplace=True))
            for a, b in pairwise(widths)
        )
        self.head, self.unused = nn.Conv2d(8, 1, 1), nn.Conv2d(3, 8, 1)

    def forward(self, image):
        features = image
        for stage in self.stages:
            features = stage(features)
        return F.interpolate(self.head(features), image.shape[2:], mode="bilinear")


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 1, 1)

    def forward(self, image):
        features = torch.cat([image, image, image[:, :2]], dim=1)
        return self.head(self.conv(self.conv(features)))


@pytest.mark.parametrize("options", [{}, {"stride": 32}, {"size": (64, 64)}], ids=str)
def test_the_ends_of_the_stages_are_chosen(options) -> None:
    localizer = WrappedLocalizer(Stages(), **options)
    image = torch.rand(2, 3, 40, 48)
    taps = candidate_taps(localizer, image)
    assert taps == ("module.stages.0", "module.stages.1", "module.stages.2")
    with FeatureTaps(localizer, taps) as found:
        localizer(image)
        assert [one.shape[1] for one in found.features] == [4, 6, 8]


def test_what_runs_twice_or_gives_a_mask_is_no_tap() -> None:
    assert candidate_taps(WrappedLocalizer(Shared()), torch.rand(1, 3, 32, 32)) == ()


def test_full_size_serves_where_nothing_is_smaller() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))
    assert candidate_taps(network, torch.rand(1, 3, 32, 32)) == ("1",)


def test_modes_and_hooks_are_left_as_they_were() -> None:
    network = Stages().train()
    candidate_taps(network, torch.rand(1, 3, 32, 32))
    assert all(part.training for part in network.modules())
    assert not any(part._forward_hooks for part in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
