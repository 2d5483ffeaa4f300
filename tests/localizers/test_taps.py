"""Feature taps hold what the submodule gave, or say what is wrong with it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ansm_fast.errors import LocalizerError
from ansm_fast.localizers import FeatureTaps, WrappedLocalizer, make_localizer


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 3, 16, 32, generator=torch.Generator().manual_seed(0))


def overwriting() -> nn.Module:
    """Tap "0" is followed by an in-place ReLU, tap "2" by nothing of the kind."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1), nn.ReLU()
    )


@pytest.mark.parametrize("mode", ["grad", "no_grad", "inference"])
def test_a_tap_holds_what_the_module_gave(image, mode) -> None:
    network = overwriting()
    with torch.no_grad():
        first = network[0](image)
        wanted = [first.clone(), network[2](torch.relu(first))]
    guard = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}
    with guard[mode](), FeatureTaps(network, ("0", "2")) as taps:
        for _ in range(3):
            network(image)
            assert all(map(torch.equal, taps.features, wanted))
    assert wanted[0].min() < 0


def test_gradients_flow_through_a_tap_that_is_overwritten(image) -> None:
    network = overwriting()
    with FeatureTaps(network, ("0",)) as taps:
        for _ in range(2):
            leaf = image.clone().requires_grad_(True)
            network(leaf)
            (found,) = torch.autograd.grad(taps.features[0].square().sum(), leaf)
    (wanted,) = torch.autograd.grad(network[0](leaf).square().sum(), leaf)
    torch.testing.assert_close(found, wanted)


def test_only_what_is_overwritten_is_copied_again(image) -> None:
    network = overwriting()
    given: list[torch.Tensor] = []
    for part in (network[0], network[2]):
        part.register_forward_hook(lambda module, args, output: given.append(output))
    with FeatureTaps(network, ("0", "2")) as taps:
        network(image)
        network(image)
        copied = [one is not other for one, other in zip(taps.features, given[-2:], strict=True)]
    assert copied == [True, False]


class Gives(nn.Module):
    """A convolution and a module whose output is made of its map by ``what``."""

    def __init__(self, what) -> None:
        super().__init__()
        self.conv, self.inner, self.what = nn.Conv2d(3, 6, 3, 4, 1), Inner(what), what

    def forward(self, image):
        return self.inner(self.conv(image))


class Inner(nn.Module):
    def __init__(self, what) -> None:
        super().__init__()
        self.what = what

    def forward(self, features):
        return self.what(features)


def tokens(features):
    return features.flatten(2).transpose(1, 2)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda f: (f, f.mean()), r"the tap inner must give.*a tuple of 2: \(2, 6, 4, 8\), \(\)"),
        (lambda f: {"out": f}, "the tap inner must give a tensor.*got a dict with 'out'"),
        (lambda f: [f], "the tap inner must give a tensor.*got a list of 1"),
        (tokens, r"the tap inner gives \(2, 32, 6\).*tokens \(B, N, C\).*tap_layout="),
        (lambda f: f.movedim(1, -1), r"the tap inner gives \(2, 4, 8, 6\).*looks like \(B, H, W"),
        (lambda f: f.mean((2, 3)), r"the tap inner must give.*got \(2, 6\)"),
        (lambda f: f.flatten(0, 1)[:, None], r"the tap inner must give.*got \(12, 1, 4, 8\)"),
    ],
)
def test_outputs_of_other_kinds_name_the_tap(image, what, words) -> None:
    network = Gives(what)
    with FeatureTaps(network, ("inner",)), pytest.raises(LocalizerError, match=words) as found:
        network(image)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("what", [tokens, lambda f: f.movedim(1, -1)])
def test_tokens_and_channels_last_become_channels_first(image, what) -> None:
    localizer = WrappedLocalizer(
        Gives(what),
        postprocess=lambda out: image.mean(1, keepdim=True) - 0.5,
        taps=("conv", "inner"),
        tap_layout="channels_last",
    )
    with FeatureTaps(localizer, ("module.inner",)) as taps:
        localizer(image)
    features = localizer.module.conv(image)
    torch.testing.assert_close(taps.features[0].flatten(2), features.flatten(2))
    with FeatureTaps(localizer, ("module.inner",), layout="channels_first") as taps:
        localizer(image)
    torch.testing.assert_close(taps.features[0], what(features))


def test_maps_of_the_built_in_localizers_are_taken_as_they_are() -> None:
    """No guess at the layout may trip over a real map, whatever the size and the channels."""
    localizer = make_localizer(widths=(8, 16, 16, 32)).eval()
    for size in ((16, 16), (64, 64), (128, 128), (33, 170), (256, 64)):
        with FeatureTaps(localizer, localizer.taps) as taps:
            localizer(torch.rand(1, 3, *size))
        assert len(taps.features) == 4


def test_a_tap_that_did_not_run_is_named(image) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ModuleDict({"unused": nn.ReLU()}))
    network.forward = lambda image: network[0](image)
    with FeatureTaps(network, ("0", "1.unused")) as taps:
        network(image)
        with pytest.raises(LocalizerError, match=r"the tap 1\.unused did not run in the last"):
            _ = taps.features


def test_a_tap_that_runs_twice_is_named(image) -> None:
    shared = nn.Conv2d(3, 3, 1)
    network = nn.Sequential(shared, nn.ReLU(), shared)
    with FeatureTaps(network, ("0",)), pytest.raises(LocalizerError, match="the tap 0 ran twice"):
        network(image)


def test_names_that_are_none(image) -> None:
    with pytest.raises(ValueError, match=r"taps must name submodules of Sequential, got.*'9'"):
        FeatureTaps(overwriting(), ("9",))
    with pytest.raises(ValueError, match=r"taps must be a tuple of names, got '0'; write \('0',\)"):
        FeatureTaps(overwriting(), "0")  # type: ignore[arg-type]


def test_hooks_go_away_after_an_exception(image) -> None:
    network = Gives(lambda features: (features,))
    with pytest.raises(LocalizerError), FeatureTaps(network, ("inner",)):
        network(image)
    network(image)
    assert not network._forward_hooks and not network.inner._forward_hooks


def test_arguments_of_taps_are_named(image) -> None:
    network = overwriting()
    for arguments, kind, words in (
        (
            (network, ("0",), "nhwc"),
            ValueError,
            "layout must be one of channels_first, chan.*'nhwc'",
        ),
        ((network, None), TypeError, "taps must be a tuple of names, got NoneType"),
        ((lambda image: network(image), ("0",)), TypeError, "module must be a torch.nn.Module"),
    ):
        with pytest.raises(kind, match=words):
            FeatureTaps(*arguments)
    with pytest.raises(LocalizerError, match="the tap 0 did not run"):
        _ = FeatureTaps(network, ("0",)).features


def test_a_second_look_at_the_first_logits_is_no_second_run(image) -> None:
    """Logits that may be probabilities are looked at by another forward within the first."""
    network = overwriting().append(nn.Conv2d(4, 1, 1))
    nn.init.constant_(network[4].bias, 0.5)
    network[4].weight.data *= 0.01
    localizer = WrappedLocalizer(network, taps=("2",))
    with FeatureTaps(localizer, localizer.taps) as taps:
        logits = localizer(image)
        assert logits.min() >= 0 and logits.max() <= 1
        assert taps.features[0].shape == (2, 4, 16, 32)
