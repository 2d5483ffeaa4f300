"""The gate is taught what helps the localizer, image by image, and by how much."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ansm_fast.errors import InputError
from ansm_fast.models import ANSM, ANSMConfig
from ansm_fast.ops import bce_dice_loss
from ansm_fast.training.config import parse_run
from ansm_fast.training.stages import AuxiliaryMaskHead, TwoStageLoss


def mask() -> Tensor:
    mask = torch.zeros(2, 1, 48, 40)
    mask[:, :, 10:30, 5:20] = 1
    return mask


class TwoFaced(torch.nn.Module):
    """Right about images that are as they were given; about others, right where ``helped``.

    Right is the mask times ``sure``, wrong the opposite.
    """

    taps = ()

    def __init__(self, given: Tensor, helped: Tensor, sure: float) -> None:
        super().__init__()
        self.given, self.helped, self.sure = given, helped, sure
        self.graded: list[bool] = []

    def forward(self, image: Tensor) -> Tensor:
        self.graded.append(torch.is_grad_enabled())
        truth = (2 * mask() - 1).repeat(2, 1, 1, 1) * self.sure
        compressed = not torch.equal(image, self.given)
        right = self.helped if compressed else ~self.helped
        return torch.where(right[:, None, None, None], truth, -truth)


@pytest.fixture
def parts(workspace):
    _, _, values = workspace
    changes = {"objective": "gate", "jpeg_quality": 60, "precision": "fp32"}
    run = parse_run(values | changes, "test")
    torch.manual_seed(0)
    ansm = ANSM(ANSMConfig(jpeg_quality=60)).train()
    attacked, original = torch.rand(2, 3, 48, 40), torch.rand(2, 3, 48, 40)
    flags = torch.zeros(2, dtype=torch.bool)
    batch = (attacked, original, mask(), mask().roll(1, 0), torch.arange(2), flags)

    def make(helped: Tensor, sure: float = 3.0) -> tuple[TwoStageLoss, TwoFaced]:
        localizer = TwoFaced(torch.cat([attacked, original]), helped, sure)
        return TwoStageLoss(run, ansm, AuxiliaryMaskHead(), localizer, ()), localizer

    return make, ansm, batch


@pytest.mark.parametrize("sure", [0.5, 3.0])
def test_the_loss_is_the_cost_of_the_wrong_choice(parts, sure) -> None:
    make, _, batch = parts
    helped = torch.tensor([True, False, False, False])
    loss, localizer = make(helped, sure)
    found = loss(0, *batch)
    truth = (2 * mask() - 1) * sure
    gain = bce_dice_loss(-truth, mask(), reduction="none")
    gain = float((gain - bce_dice_loss(truth, mask(), reduction="none"))[0])
    assert gain > 0
    # An untrained gate has the logit 2 everywhere.
    costs = F.binary_cross_entropy_with_logits(
        torch.full((4,), 2.0), helped.float(), reduction="none"
    )
    torch.testing.assert_close(found["loss"], gain * costs.mean(), rtol=1e-4, atol=0)
    assert float(found["chosen"]) == 0.25
    assert localizer.graded == [False, False]


@pytest.mark.parametrize("helps", [True, False])
def test_the_gate_goes_where_it_helps(parts, helps) -> None:
    make, ansm, batch = parts
    loss, _ = make(torch.full((4,), helps))
    loss(0, *batch)["loss"].backward()
    assert ansm.head.bias is not None and ansm.head.bias.grad is not None
    assert (float(ansm.head.bias.grad) < 0) == helps


def test_a_localizer_that_does_not_care_teaches_nothing(parts) -> None:
    make, _, batch = parts
    loss, _ = make(torch.tensor([True] * 4), sure=0.0)
    assert float(loss(0, *batch)["loss"].detach()) == 0


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_statistics_are_those_of_use(parts, frozen) -> None:
    make, ansm, batch = parts
    torch.nn.init.normal_(ansm.head.weight, std=0.1)  # a fresh head sees nothing
    loss, _ = make(torch.tensor([True, False, False, True]))
    loss.run = loss.run.model_copy(update={"frozen_statistics": frozen})
    before = {name: value.clone() for name, value in ansm.named_buffers()}
    while_learning = loss(0, *batch)["loss"]
    kept = all(torch.equal(before[name], value) for name, value in ansm.named_buffers())
    assert kept == frozen and ansm.training
    while_learning.backward()
    assert all(parameter.grad is not None for parameter in ansm.parameters())
    ansm.load_state_dict(before, strict=False)
    in_use = loss_in_eval(loss, ansm, batch)
    assert torch.allclose(while_learning.detach(), in_use, rtol=1e-5) == frozen


def test_a_fresh_network_has_no_statistics_to_keep(workspace) -> None:
    _, _, values = workspace
    with pytest.raises(InputError, match=r"frozen_statistics.*give initial"):
        parse_run(values | {"frozen_statistics": True}, "test")


def loss_in_eval(loss: TwoStageLoss, ansm: ANSM, batch: tuple[Tensor, ...]) -> Tensor:
    ansm.eval()
    with torch.no_grad():
        return loss(0, *batch)["loss"]


def test_no_gate_to_ask() -> None:
    with pytest.raises(ValueError, match=r"no gate.*jpeg_quality 0"):
        ANSM().gate_and_compression(torch.rand(1, 16, 8, 8), (16, 16))
