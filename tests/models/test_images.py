"""What the networks take for an image, and what they say about the rest; tied weights."""

from __future__ import annotations

import pytest
import torch

from ansm_fast.localizers import (
    BuiltinLocalizer,
    LocalizerConfig,
    load_localizer,
    save_localizer,
)
from ansm_fast.models import ANSM


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_of_other_dtypes_are_defended(dtype):
    ansm = trained_looking()
    image = torch.rand(2, 3, 24, 18).to(dtype)
    defended = ansm.defend(image)
    assert defended.dtype == dtype and defended.shape == image.shape
    wide = ansm.defend(image.float())
    ulp = torch.finfo(dtype).eps
    torch.testing.assert_close(defended.float(), wide, atol=max(ulp, 1e-7), rtol=0)
    assert (defended.float() - image.float()).abs().max() <= ansm.eps_d + 1e-6
    localizer = BuiltinLocalizer().eval()
    torch.testing.assert_close(localizer(image), localizer(image.float()))


def trained_looking() -> ANSM:
    torch.manual_seed(0)
    ansm = ANSM().eval()
    torch.nn.init.normal_(ansm.head.weight, std=0.1)
    return ansm


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda x: x * 255, ValueError, r"in \[0, 1\], got values from .* to 2.*divide 8-bit"),
        (lambda x: x * 4 - 2, ValueError, r"got values from -.*leave a normalization"),
        (lambda x: x / 0 * 0, ValueError, r"in \[0, 1\], got NaN"),
        (lambda x: x[0], ValueError, r"got \(3, 20, 16\); add a batch dimension"),
        (lambda x: x.permute(0, 2, 3, 1), ValueError, "put channels first"),
        (lambda x: (x * 255).byte(), TypeError, r"floating point in \[0, 1\], got torch.uint8"),
        (lambda x: x.numpy(), TypeError, "must be a tensor .*got ndarray"),
        (lambda x: [x[0], x[1, :, :9]], TypeError, r"got list; give images of different sizes on"),
    ],
)
def test_what_is_no_image_is_explained(change, error, words):
    image = torch.rand(2, 3, 20, 16)
    for network in (ANSM().eval().defend, BuiltinLocalizer().eval()):
        with pytest.raises(error, match=words):
            network(change(image))


def test_a_few_ulps_outside_and_no_image_at_all_are_fine():
    ansm = trained_looking()
    image = torch.rand(2, 3, 16, 16).clamp(0.2)
    image[0, 0, 0, 0] = 1
    off = image * (1 + 2e-7)
    assert off.max() > 1 and ansm.defend(off).max() <= 1
    assert ansm.defend(image[:0]).shape == (0, 3, 16, 16)
    assert BuiltinLocalizer().eval()(image[:0]).shape == (0, 1, 16, 16)


def test_a_graph_that_is_compiled_looks_at_no_values(monkeypatch):
    """Reading a value would break it; the clamp still holds."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert trained_looking().defend(torch.rand(1, 3, 16, 16) * 255).max() <= 1


def test_tied_weights_are_written(tmp_path):
    """Two names of one storage; the format itself refuses them."""
    localizer = BuiltinLocalizer(LocalizerConfig((8, 8, 8, 8)))
    localizer.body.lateral1[0].weight = localizer.body.skip1[0].weight
    save_localizer(tmp_path / "tied.safetensors", localizer)
    again = load_localizer(tmp_path / "tied.safetensors").state_dict()
    assert all(torch.equal(again[name], value) for name, value in localizer.state_dict().items())
    with pytest.raises(
        TypeError, match=r"of the architectures unet, segformer, rgb, got Conv2d; save"
    ):
        save_localizer(tmp_path / "mine.safetensors", torch.nn.Conv2d(3, 1, 1))
