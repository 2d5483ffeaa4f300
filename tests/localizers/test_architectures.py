"""Localizers of every architecture: any size, gradients, taps, checkpoints, training."""

from __future__ import annotations

import pytest
import torch

from ansm_fast.errors import InputError
from ansm_fast.localizers import (
    ARCHITECTURES,
    BUNDLED_LOCALIZERS,
    FeatureTaps,
    Localizer,
    load_localizer,
    make_localizer,
    save_localizer,
)
from ansm_fast.models.checkpoint import bundled, lineage

SMALL = {
    "unet": {"widths": (8, 8, 8, 8)},
    "segformer": {"widths": (8, 8, 8, 8)},
    "rgb": {"widths": (8, 8, 8)},
}


@pytest.fixture(params=ARCHITECTURES)
def architecture(request) -> str:
    if request.param == "segformer":
        pytest.importorskip("transformers")
    return request.param


@pytest.fixture
def localizer(architecture):
    torch.manual_seed(0)
    return make_localizer(architecture, **SMALL[architecture]).eval()


@pytest.mark.parametrize("size", [(1, 1), (33, 47), (64, 32)])
def test_any_size_gives_one_logit_a_pixel_and_a_gradient(localizer, size) -> None:
    assert isinstance(localizer, Localizer)
    image = torch.rand(2, 3, *size, requires_grad=True)
    logits = localizer(image)
    assert logits.shape == (2, 1, *size)
    logits.sum().backward()
    assert image.grad is not None and image.grad.isfinite().all()


def test_taps_are_maps_in_space(localizer) -> None:
    with FeatureTaps(localizer, localizer.taps) as taps:
        localizer(torch.rand(2, 3, 64, 64))
    assert len(taps.features) == 4
    assert all(feature.dim() == 4 and len(feature) == 2 for feature in taps.features)


def test_checkpoints_give_back_the_same_localizer(localizer, tmp_path) -> None:
    path = tmp_path / "localizer.safetensors"
    mark = save_localizer(path, localizer, {"why": "test"})
    before = torch.random.get_rng_state()
    again = load_localizer(path)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert type(again) is type(localizer) and again.config == localizer.config
    assert again.fingerprint == mark and not again.training
    image = torch.rand(1, 3, 40, 40)
    assert torch.equal(again(image), localizer(image))


def test_what_cannot_be_made_is_explained(architecture) -> None:
    with pytest.raises(
        ValueError, match="architecture must be one of unet, segformer, rgb, got 'cnn'"
    ):
        make_localizer("cnn")
    with pytest.raises(TypeError, match="depth"):
        make_localizer(architecture, depth=3)
    if architecture == "segformer":
        with pytest.raises(ValueError, match=r"divisible by 1, 2, 4 and 8, got \(8, 8, 8, 9\)"):
            make_localizer(architecture, widths=(8, 8, 8, 9))


def test_bundled_localizers_go_by_name() -> None:
    one, other = load_localizer("robust"), load_localizer("builtin")
    assert one.fingerprint == load_localizer().fingerprint != other.fingerprint
    record = lineage(bundled(BUNDLED_LOCALIZERS["robust"]), "localizer")
    while "initial" in record:
        record = record["initial"]
    assert record["fingerprint"] == other.fingerprint


def test_the_missing_library_is_named(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'ansm-fast\[zoo\]'"):
        make_localizer("segformer")


def test_every_filter_of_the_rgb_network_is_learned() -> None:
    network = make_localizer("rgb", dilated_blocks=5)
    learned = {name.rpartition(".")[2] for name, _ in network.named_buffers()}
    assert learned == {"running_mean", "running_var", "num_batches_tracked"}
    convolutions = [part for part in network.modules() if isinstance(part, torch.nn.Conv2d)]
    assert {part.dilation[0] for part in convolutions} == {1, 2, 4}
    filters = convolutions[0].weight.detach().mean(1)
    overlaps = filters.flatten(1) @ filters.flatten(1).T
    assert filters.shape == (16, 4, 4)
    torch.testing.assert_close(overlaps, overlaps.diag().diag(), atol=1e-2, rtol=0)
    assert filters[:-1].sum((1, 2)).abs().max() < 1e-3  # all but the last are blind to brightness


@pytest.mark.parametrize("architecture", ["unet", "segformer"], indirect=True)
def test_autocast_keeps_residuals_of_one_grey_level(localizer) -> None:
    image = (torch.full((1, 3, 32, 32), 200.0) + torch.randint(0, 2, (1, 3, 32, 32))) / 255
    plain = localizer.front_end(image)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(localizer.front_end(image), plain)
