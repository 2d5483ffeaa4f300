"""A user's own model behind ``WrappedLocalizer``: flags, kinds of output, sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ansm_fast.errors import LocalizerError
from ansm_fast.inference.optimize import for_inference
from ansm_fast.localizers import WrappedLocalizer
from ansm_fast.localizers.logits import (
    logits_of_probabilities,
    logits_of_two_probabilities,
)


class Network(nn.Module):
    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.drop, self.out = nn.Dropout(0.5), nn.Conv2d(4, channels, 1)

    def forward(self, image):
        return self.out(self.drop(self.norm(self.conv(image))))


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))


def test_wrapping_neither_switches_nor_freezes_the_model(image) -> None:
    network = Network().train()
    network.drop.eval()
    before = {name: part.training for name, part in network.named_modules()}
    mean = network.norm.running_mean.clone()
    localizer = WrappedLocalizer(network)
    whole = nn.Sequential(localizer).train()
    first = whole(image.requires_grad_(True))
    first.sum().backward()
    assert torch.equal(first, localizer(image)) and image.grad is not None
    assert {name: part.training for name, part in network.named_modules()} == before
    assert torch.equal(network.norm.running_mean, mean)
    for parameter in network.parameters():
        assert parameter.requires_grad and parameter.grad is None
    assert torch.equal(first, WrappedLocalizer(Network().eval())(image))


def test_flags_come_back_after_an_exception(image) -> None:
    network = Network().train()
    with pytest.raises(LocalizerError, match="KeyError"):
        WrappedLocalizer(network, postprocess=lambda out: {}["mask"])(image)
    assert network.training and network.norm.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_copy_for_inference_folds_a_model_in_train_mode(image) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))
    localizer = WrappedLocalizer(network.train())
    torch.testing.assert_close(for_inference(localizer)(image), localizer(image))
    assert network.training


@pytest.mark.parametrize("train", [True, False])
def test_it_compiles(image, train) -> None:
    network = Network().train(train).requires_grad_(train)
    localizer = WrappedLocalizer(network, stride=8)
    expected = localizer(image)
    compiled = torch.compile(localizer, backend="eager", fullgraph=not train)
    torch.testing.assert_close(compiled(image), expected)
    assert network.training is train


def test_probabilities_become_logits_that_never_saturate(image) -> None:
    network = Network().eval()
    logits = network(image)
    for scale in (1.0, 60.0):
        localizer = WrappedLocalizer(
            network,
            postprocess=lambda z, s=scale: torch.sigmoid(s * z),
            logits_from="probabilities",
        )
        found = localizer(image.detach().requires_grad_(True))
        assert found.isfinite().all()
        wanted = (scale * logits).clamp(max=16.6)
        torch.testing.assert_close(found, wanted, atol=0.5, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_the_gradient_of_the_logit_undoes_the_sigmoids(dtype) -> None:
    logits = torch.tensor([-60.0, -30, -5, 0, 3, 5], dtype=dtype)
    if dtype == torch.float16:  # whose smallest number is e^-16
        logits = logits[2:]
    leaf = logits.clone().requires_grad_(True)
    found = logits_of_probabilities(torch.sigmoid(leaf))
    (gradient,) = torch.autograd.grad(found.sum(), leaf)
    loose = {"atol": 0.4, "rtol": 0.4} if dtype.itemsize == 2 else {"atol": 2e-3, "rtol": 1e-4}
    torch.testing.assert_close(found.to(dtype), logits, **loose)
    torch.testing.assert_close(gradient, torch.ones_like(gradient), **loose)


def test_certain_probabilities_have_finite_logits_and_gradients() -> None:
    leaf = torch.tensor([0.0, 1e-38, 0.5, 1.0], requires_grad=True)
    found = logits_of_probabilities(leaf)
    (gradient,) = torch.autograd.grad(found.sum(), leaf)
    assert found.isfinite().all() and gradient.isfinite().all() and (gradient > 0).all()
    two = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).view(2, 2, 1, 1).requires_grad_(True)
    found = logits_of_two_probabilities(two)
    (gradient,) = torch.autograd.grad(found.sum(), two)
    assert found.isfinite().all() and gradient.isfinite().all()
    assert found[0] > 60 and found[1] < -60


def test_two_classes(image) -> None:
    network = Network(2).eval()
    wanted = network(image)[:, 1:] - network(image)[:, :1]
    torch.testing.assert_close(WrappedLocalizer(network, logits_from="two_class")(image), wanted)
    soft = nn.Sequential(network, nn.Softmax(1))
    found = WrappedLocalizer(soft, logits_from="two_class_probabilities")(image)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("channels", "after", "kind", "words"),
    [
        (1, nn.Sigmoid(), None, "look like probabilities.*logits_from='probabilities'"),
        (1, nn.Identity(), "probabilities", r"needs values in \[0, 1\], got -.*write .*'logits'"),
        (2, nn.Softmax(1), "two_class", "add up to 1.*logits_from='two_class_probabilities'"),
        (2, nn.Identity(), "two_class_probabilities", "write logits_from='two_class'"),
        (1, nn.Identity(), "two_class", r"needs an output \(B, 2, H, W\).*got \(2, 1, 12, 10\)"),
        (2, nn.Identity(), None, r"got \(2, 2, 12, 10\); give .*logits_from='two_class'"),
        (1, nn.AvgPool2d(2), None, r"got \(2, 1, 6, 5\); resize them.*F.interpolate"),
        (1, nn.Flatten(1), None, r"got \(2, 120\); pass postprocess="),
    ],
)
def test_what_the_output_is_not(image, channels, after, kind, words) -> None:
    localizer = WrappedLocalizer(nn.Sequential(Network(channels), after), logits_from=kind)
    with pytest.raises(LocalizerError, match=words) as found:
        localizer(image)
    assert "\n" not in str(found.value)


class Divisible(Network):
    def forward(self, image):
        if image.shape[2] % 8 or image.shape[3] % 8:
            raise RuntimeError("The size of tensor a must match\nthe size of tensor b")
        return super().forward(image)


def test_a_stride_pads_and_cuts_off_again(image) -> None:
    network = Divisible().eval()
    found = WrappedLocalizer(network, stride=8)(image)
    padded = F.pad(image, (0, 6, 0, 4), mode="replicate")
    assert torch.equal(found, network(padded)[..., :12, :10])
    large = torch.rand(1, 3, 16, 8)
    assert torch.equal(WrappedLocalizer(network, stride=8)(large), network(large))


def test_a_size_resizes_there_and_back(image) -> None:
    seen: list[torch.Size] = []
    localizer = WrappedLocalizer(
        Divisible().eval(),
        preprocess=lambda x: seen.append(x.shape) or x,  # type: ignore[func-returns-value]
        size=(16, 24),
    )
    leaf = image.clone().requires_grad_(True)
    found = localizer(leaf)
    assert found.shape == (2, 1, 12, 10) and seen == [(2, 3, 16, 24)]
    found.sum().backward()
    assert leaf.grad is not None and leaf.grad.abs().min() > 0
    assert torch.equal(
        localizer(torch.ones(1, 3, 16, 24)), localizer.module(torch.ones(1, 3, 16, 24))
    )


def test_an_odd_size_is_named_with_the_way_out(image) -> None:
    with pytest.raises(LocalizerError) as found:
        WrappedLocalizer(Divisible())(image)
    text = str(found.value)
    assert "Divisible failed on images of 12 x 10 (RuntimeError: The size of tensor a" in text
    assert "stride=32" in text and "size=(512, 512)" in text and "\n" not in text
    assert isinstance(found.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"size": (8, 8), "stride": 8}, ValueError, "size or stride, not both"),
        ({"size": (8,)}, ValueError, r"size must be \(height, width\)"),
        ({"size": (8, 0)}, ValueError, r"size must be \(height, width\)"),
        ({"stride": 0}, ValueError, "stride must be a whole number >= 1, got 0"),
        ({"logits_from": "softmax"}, ValueError, "logits_from must be one of logits, prob"),
        ({"tap_layout": "tokens"}, ValueError, "tap_layout must be one of channels_first"),
        ({"taps": "conv"}, ValueError, r"must be a tuple of names, got 'conv'; write \('conv',\)"),
        ({"taps": ("nowhere",)}, ValueError, "taps must name submodules of Network.*nowhere"),
    ],
)
def test_options_that_cannot_be(options, error, words) -> None:
    with pytest.raises(error, match=words):
        WrappedLocalizer(Network(), **options)


def test_only_modules_are_wrapped() -> None:
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got type; give an instance"):
        WrappedLocalizer(Network)


def test_images_out_of_range_never_reach_the_model(image) -> None:
    with pytest.raises(ValueError, match=r"image must be in \[0, 1\], got values from .* to 2"):
        WrappedLocalizer(Network())(image * 255)


def test_probabilities_of_two_classes_are_told_from_others(image) -> None:
    two = Network(2)
    with pytest.raises(LocalizerError, match=r"'probabilities' needs .*'two_class_probabilities'"):
        WrappedLocalizer(nn.Sequential(two, nn.Softmax(1)), logits_from="probabilities")(image)
    independent = WrappedLocalizer(
        nn.Sequential(two, nn.Sigmoid()), logits_from="two_class_probabilities"
    )
    with pytest.raises(LocalizerError, match=r"add up to 1, got sums from .*out\[:, 1:\]"):
        independent(image)
    WrappedLocalizer(nn.Sequential(two, nn.Softmax(1)), logits_from="two_class_probabilities")(
        image
    )


@pytest.mark.parametrize("bounded", [nn.Hardsigmoid(), nn.Sigmoid(), nn.Hardtanh(0, 1)])
def test_every_kind_of_probability_is_seen(image, bounded) -> None:
    network = Network()
    nn.init.constant_(network.out.bias, 0.5)
    network.out.weight.data *= 0.01
    with pytest.raises(LocalizerError, match="look like probabilities"):
        WrappedLocalizer(nn.Sequential(network, bounded))(image)


def test_a_model_on_another_device_is_told_of_its_device(image) -> None:
    with pytest.raises(LocalizerError, match=r"or model\.to\(device\)"):
        WrappedLocalizer(Network().to("meta"))(image)


def test_options_that_are_no_functions_or_sizes_are_named() -> None:
    for options, kind, words in (
        (
            {"postprocess": "out"},
            TypeError,
            r"postprocess must be a function of a tensor, got 'out'",
        ),
        ({"preprocess": 3}, TypeError, "preprocess must be a function"),
        ({"size": 512.0}, ValueError, r"size must be \(height, width\), each >= 1"),
        ({"size": "512"}, ValueError, r"size must be \(height, width\), each >= 1, got '512'"),
        ({"size": True}, ValueError, r"size must be \(height, width\)"),
    ):
        with pytest.raises(kind, match=words):
            WrappedLocalizer(Network(), **options)
    assert WrappedLocalizer(Network(), size=np.int64(8)).size == (8, 8)


class Precision(nn.Module):
    """Records the dtype that its convolution computes in."""

    def __init__(self, channels: int, after: nn.Module) -> None:
        super().__init__()
        self.conv, self.after = nn.Conv2d(3, channels, 1), after

    def forward(self, image):
        output = self.conv(image)
        self.seen = output.dtype
        return self.after(output)


@pytest.mark.parametrize(
    ("channels", "after", "kind", "dtype"),
    [
        (1, nn.Identity(), "logits", torch.bfloat16),
        (1, nn.Sigmoid(), "probabilities", torch.float32),
        (2, nn.Identity(), "two_class", torch.float32),
        (2, nn.Softmax(1), "two_class_probabilities", torch.float32),
    ],
)
def test_what_is_no_logits_is_computed_in_float32(channels, after, kind, dtype) -> None:
    network = Precision(channels, after)
    localizer, image = WrappedLocalizer(network, logits_from=kind), torch.rand(1, 3, 8, 8)
    image.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        logits = localizer(image)
    logits.float().sum().backward()
    assert network.seen == logits.dtype == dtype and bool(image.grad.isfinite().all())
