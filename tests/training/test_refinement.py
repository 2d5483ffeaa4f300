"""The loss of MgR: its targets on forged and on pristine images."""

from __future__ import annotations

import torch

from ansm_fast.ops import dual_mask_loss
from ansm_fast.training.stage_config import MgRConfig
from ansm_fast.training.stages import refinement


def sample():
    torch.manual_seed(0)
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, 2:5] = 1.0  # the second is pristine
    return torch.randn(4, 1, 8, 8), torch.rand(2, 1, 8, 8), mask


def test_forged_images_blend_the_localizers_own_mask() -> None:
    logits, own, mask = (x[::2] if len(x) == 4 else x[:1] for x in sample())
    found = refinement(MgRConfig(weight_orig=2.0), logits, own, mask)
    expected = dual_mask_loss(
        logits[:1], logits[1:], mask, weight_orig=2.0,
        bce_target=0.5 * mask + 0.5 * own, bce_target_orig=0.2 * mask + 0.8 * own,
        dice_weight=MgRConfig().dice_weight,
    )  # fmt: skip
    torch.testing.assert_close(found, expected)


def test_pristine_images_have_their_own_weight_and_no_target_but_the_truth() -> None:
    logits, own, mask = sample()
    once, thrice = (refinement(MgRConfig(pristine_weight=w), logits, own, mask) for w in (1.0, 3.0))
    pristine = dual_mask_loss(
        logits[1::2][:1], logits[3:], mask[1:], dice_weight=MgRConfig().dice_weight
    )
    torch.testing.assert_close(thrice - once, 2 * pristine / 2)
    own[1] = 0.7
    torch.testing.assert_close(refinement(MgRConfig(), logits, own, mask), once)
