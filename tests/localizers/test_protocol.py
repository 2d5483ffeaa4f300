"""Other people's models behind the Localizer protocol, and feature taps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ansm_fast.localizers import BuiltinLocalizer, FeatureTaps, Localizer, WrappedLocalizer


class TwoClasses(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.out = nn.Conv2d(4, 2, 1)

    def forward(self, image):
        return {"logits": self.out(self.stem(image).relu())}


def test_any_module_is_wrapped_in_three_lines():
    localizer = WrappedLocalizer(
        TwoClasses(),
        preprocess=lambda image: image * 2 - 1,
        postprocess=lambda out: out["logits"][:, 1:] - out["logits"][:, :1],
        taps=("stem",),
    )
    assert isinstance(localizer, Localizer)
    image = torch.rand(2, 3, 9, 7, requires_grad=True)
    logits = localizer(image)
    assert logits.shape == (2, 1, 9, 7)
    logits.sum().backward()
    assert image.grad is not None
    assert all(parameter.grad is None for parameter in localizer.parameters())


def test_wrong_output_and_unknown_taps_are_explained():
    with pytest.raises(ValueError, match=r"got dict; pass postprocess="):
        WrappedLocalizer(TwoClasses())(torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"taps must name submodules.*nowhere"):
        WrappedLocalizer(TwoClasses(), taps=("nowhere",))


def test_feature_taps_see_the_named_outputs_and_go_away():
    localizer = BuiltinLocalizer().eval()
    with FeatureTaps(localizer, localizer.taps) as taps:
        localizer(torch.rand(1, 3, 64, 64))
    assert [tuple(f.shape[2:]) for f in taps.features] == [(16, 16), (8, 8), (4, 4), (8, 8)]
    before = list(taps.features)
    localizer(torch.rand(1, 3, 64, 64))
    assert all(a is b for a, b in zip(before, taps.features, strict=True))


@pytest.mark.parametrize("size", [(1, 1), (15, 17), (64, 80)])
def test_builtin_localizer_takes_any_size(size):
    assert BuiltinLocalizer().eval()(torch.rand(1, 3, *size)).shape == (1, 1, *size)
