"""What the look at a localizer finds, before an ANSM is trained for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ansm_fast.errors import InputError, LocalizerError
from ansm_fast.localizers import WrappedLocalizer
from ansm_fast.training.inspection import all_marked, check_sides, inspect_localizer


class Bright(nn.Module):
    """Marks what is bright: exact on the images below."""

    def __init__(self, multiple: int = 1, gain: float = 20.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1, bias=False)
        nn.init.constant_(self.conv.weight, 1 / 3)
        self.multiple, self.gain = multiple, gain

    def forward(self, image):
        if image.shape[2] % self.multiple or image.shape[3] % self.multiple:
            raise ValueError(f"sides must be multiples of {self.multiple}")
        return self.gain * (self.conv(image)[:, :1] - 0.5)


@pytest.fixture(scope="module")
def forgeries():
    """Six grey images with a white square, and two without."""
    masks = np.zeros((8, 64, 64), bool)
    masks[:6, 16:32, 8:40] = True
    images = np.full((8, 64, 64, 3), 90, np.uint8)
    images[masks] = 140
    return images, masks


def test_everything_is_found(forgeries) -> None:
    found = inspect_localizer(WrappedLocalizer(Bright()), *forgeries)
    assert (found.f1, found.area, found.gradients) == (1.0, 0.0, 1.0)
    assert found.f1_attacked == 1.0  # 4 levels do not make 90 of 140
    assert found.low < 0 < found.high and found.multiple == 1 and found.size == (64, 64)
    assert found.taps == ("module.conv",) and not found.own_taps and found.images == 8
    area = 16 * 32 / 64**2
    assert found.all_marked == pytest.approx(2 * area / (1 + area)) == all_marked(forgeries[1])
    assert found.forward > 0 and found.step > 0
    lines = " ".join(found.lines())
    assert "sizes: any" in lines and "taps for FFA: module.conv" in lines
    assert "F1 1.000 unattacked, 1.000 under PGD (5 steps within 4/255), 0.222 if all is" in lines
    assert [line.split(":")[0].split(";")[0] for line in found.warnings()] == [
        "8 validation images give rough figures",
        "PGD hardly harms this localizer (F1 1.000 of 1.000)",
    ]


@pytest.mark.parametrize(("multiple", "words"), [(16, "multiples of 16"), (8, "multiples of 8")])
def test_sizes(forgeries, multiple, words) -> None:
    found = inspect_localizer(WrappedLocalizer(Bright(multiple)), *forgeries)
    assert found.multiple == multiple and f"sizes: {words}" in found.lines()[0]
    localizer, image = WrappedLocalizer(Bright(multiple)), torch.rand(1, 3, 64, 64)
    check_sides(localizer, image, {"crop": 48})
    with pytest.raises(LocalizerError, match=r"crop 44: Bright failed on images of 44 x 44"):
        check_sides(localizer, image, {"crop": 44})


def test_a_guess_is_told(forgeries) -> None:
    found = inspect_localizer(WrappedLocalizer(Bright(gain=-20.0)), *forgeries)
    assert found.f1 == 0.0
    assert "finds hardly more than marking everything" in found.warnings()[0]


@pytest.mark.parametrize(
    ("post", "words"),
    [
        (lambda z: z.detach(), "have no gradient"),
        (lambda z: (z > 0).float(), "nothing but 0 and 1"),
        (torch.sigmoid, "logits_from='probabilities'"),
        (lambda z: z * float("nan"), "must give finite logits"),
        (lambda z: 8 * (z - z).round() + z.detach(), "a gradient of 0 everywhere"),
    ],
)
def test_no_training_without_logits_and_gradient(forgeries, post, words) -> None:
    with pytest.raises(LocalizerError, match=words):
        inspect_localizer(WrappedLocalizer(Bright(), postprocess=post), *forgeries)


def test_pristine_images_alone_measure_nothing(forgeries) -> None:
    images, masks = forgeries
    with pytest.raises(InputError, match="no image of the validation set is forged"):
        inspect_localizer(WrappedLocalizer(Bright()), images, np.zeros_like(masks))


def test_it_is_left_as_it_was(forgeries) -> None:
    network = Bright().train()
    inspect_localizer(WrappedLocalizer(network), *forgeries)
    assert network.training and all(one.requires_grad for one in network.parameters())
    assert all(one.grad is None for one in network.parameters())
