"""Training leaves its victim as it was found, and its taps hold what the victim's modules gave."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ansm_fast.errors import LocalizerError
from ansm_fast.localizers import WrappedLocalizer
from ansm_fast.models import ANSM
from ansm_fast.training.config import parse_run
from ansm_fast.training.stages import AuxiliaryMaskHead, TwoStageLoss, align_taps

VALUES = {
    "kind": "ansm", "steps": 4, "data": {"train": "a", "validation": "b"}, "attack_cache": "p",
    "photographs": "none", "attacks": [{"name": "pgd"}], "ffa": {"steps": 1},
    "detect": {"steps": 0},
    "online": {"share": 0.5, "attacks": [{"name": "fgsm", "steps": 1, "adaptive": True}]},
}  # fmt: skip


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu, self.out = nn.ReLU(inplace=True), nn.Conv2d(4, 1, 1)

    def forward(self, image):
        assert not any(part.training for part in self.modules())
        return self.out(self.relu(self.norm(self.conv(image))))


@pytest.fixture
def batch() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    image, mask = torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 32, 32)
    mask[:, :, 8:20, 8:20] = 1
    return image, image, mask, mask.roll(8, -1), torch.arange(2), torch.tensor([True, False])


def two_stages(victim: nn.Module, taps: tuple[str, ...], ansm: ANSM | None = None) -> TwoStageLoss:
    run = parse_run(VALUES, "test")
    return TwoStageLoss(run, ansm or ANSM(), AuxiliaryMaskHead(), victim, taps)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_step_leaves_modes_flags_and_statistics(batch, wrapped) -> None:
    network, ansm = Network().train(), ANSM().train()
    ansm.body.down1.eval()
    modes = [part.training for one in (network, ansm) for part in one.modules()]
    buffers = [buffer.clone() for buffer in network.buffers()]
    victim = WrappedLocalizer(network) if wrapped else network
    loss = two_stages(victim, ("module.norm",) if wrapped else ("norm",), ansm)
    for step in (0, 1):
        loss(step, *batch)["loss"].backward()
    assert [part.training for one in (network, ansm) for part in one.modules()] == modes
    assert all(map(torch.equal, network.buffers(), buffers))
    assert all(parameter.requires_grad for one in (network, ansm) for parameter in one.parameters())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert ansm.head.weight.grad is not None


def test_taps_before_an_in_place_relu_are_not_its_output(batch) -> None:
    network = Network().eval()
    image = batch[0]
    *_, seen, wanted = two_stages(network, ("norm",))._localized(torch.cat([image, image]), image)
    expected = network.norm(network.conv(image))
    torch.testing.assert_close(wanted[0], expected)
    torch.testing.assert_close(seen[0], torch.cat([expected, expected]))
    assert expected.min() < 0


def test_a_victim_of_a_wrong_kind_ends_the_first_step(batch) -> None:
    victim = nn.Sequential(Network(), nn.Sigmoid())
    with pytest.raises(LocalizerError, match="look like probabilities"):
        two_stages(victim, ("0.norm",))(0, *batch)


def test_features_of_two_sizes_name_their_tap() -> None:
    with pytest.raises(
        LocalizerError, match=r"the tap conv gives \(2, 4, 8, 8\) for .*\(2, 4, 4, 4"
    ):
        align_taps(("conv",), [torch.rand(2, 4, 8, 8)], [torch.rand(2, 4, 4, 4)], 0.0)
