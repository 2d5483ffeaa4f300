from __future__ import annotations

import pytest
import torch

from ansm_fast.losses import BCEDice, ChannelwiseKL, DualMask, FeatureAlignment
from ansm_fast.ops import backends, bce_dice_loss, channelwise_kl, dual_mask_loss


def test_channelwise_kl_is_the_op() -> None:
    a, b = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    options = {"temperature": 4.0, "direction": "target_input", "reduction": "channelmean"}
    loss = ChannelwiseKL(**options, loss_weight=16.0)
    torch.testing.assert_close(loss(a, b), 16 * channelwise_kl(a, b, **options))
    assert "temperature=4.0" in repr(loss)


def test_feature_alignment_is_the_weighted_mean_over_taps() -> None:
    a, b = ([torch.randn(2, c, 4, 4) for c in (3, 5)] for _ in range(2))
    parts = [channelwise_kl(x, y) for x, y in zip(a, b, strict=True)]
    torch.testing.assert_close(FeatureAlignment()(a, b), (parts[0] + parts[1]) / 2)
    torch.testing.assert_close(
        FeatureAlignment(weights=(2.0, 0.5))(a, b), (2 * parts[0] + 0.5 * parts[1]) / 2
    )
    torch.testing.assert_close(FeatureAlignment(weights=(0.0, 3.0))(a, b), 1.5 * parts[1])
    with pytest.raises(ValueError, match="one entry a tap"):
        FeatureAlignment(weights=(1.0,))(a, b)
    with pytest.raises(ValueError, match="one entry a tap"):
        FeatureAlignment()([], [])


@pytest.mark.parametrize("weights", [None, (2.0, 0.5, 1.0), (1.0, 0.0, 3.0)])
def test_all_taps_go_through_one_call(weights, monkeypatch) -> None:
    kernels = backends.native("cpu")
    taps, calls = (3, 5, 4), []

    def counted(name: str):
        def call(*arguments):
            calls.append(name)
            return kernels[name](*arguments)

        return call

    a, b = ([torch.randn(2, c, 4, 4, dtype=torch.float64) for c in taps] for _ in range(2))
    leaves = [tap.clone().requires_grad_() for tap in a]
    layers = counted("channelwise_kl_layers")
    layers.takes = kernels["channelwise_kl_layers"].takes
    planted = {
        **kernels,
        "channelwise_kl_layers": layers,
        "channelwise_kl": counted("channelwise_kl"),
    }
    monkeypatch.setitem(backends._BACKENDS, "cpu", backends.Backend(("cpu",), planted))
    FeatureAlignment(weights)(leaves, b).backward()
    assert calls.count("channelwise_kl_layers") == 1
    assert calls.count("channelwise_kl") == (0 if weights is None else weights.count(0.0))
    monkeypatch.undo()
    others = [tap.clone().requires_grad_() for tap in a]
    terms = [
        weight * channelwise_kl(x, y)
        for weight, x, y in zip(weights or (1.0,) * 3, others, b, strict=True)
    ]
    (sum(terms) / 3).backward()
    for one, other in zip(leaves, others, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-14, atol=0)


def test_masks_are_the_ops() -> None:
    a, b = torch.randn(2, 1, 6, 6), torch.randn(2, 1, 6, 6)
    mask = torch.rand(2, 1, 6, 6) > 0.5
    torch.testing.assert_close(
        BCEDice(2.0, 0.5, pos_weight=3.0)(a, mask),
        bce_dice_loss(a, mask, bce_weight=2.0, dice_weight=0.5, pos_weight=3.0),
    )
    torch.testing.assert_close(
        DualMask(weight_orig=0.3, smooth=0.5)(a, b, mask, bce_target=mask.float() * 0.9),
        dual_mask_loss(a, b, mask, weight_orig=0.3, smooth=0.5, bce_target=mask.float() * 0.9),
    )


def test_a_tensor_pos_weight_moves_with_the_module() -> None:
    loss = BCEDice(pos_weight=torch.tensor(2.0))
    assert "pos_weight" in loss.state_dict()
    assert loss.double().pos_weight.dtype == torch.float64


@pytest.mark.parametrize(
    "make",
    [
        lambda: ChannelwiseKL(temperature=0),
        lambda: ChannelwiseKL(alpha=-1),
        lambda: ChannelwiseKL(direction="up"),
        lambda: FeatureAlignment(reduction="none"),
        lambda: DualMask(reduction="max"),
    ],
)
def test_bad_options_are_refused_at_once(make) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()


def test_a_tensor_is_no_list_of_taps() -> None:
    """Its samples would be taken for taps, and another number would come out."""
    a, b = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    for first, second, words in (
        (a, b, r"defended must be a list of tensors, one a tap, got Tensor; write \[defended\]"),
        ([a], b, r"original must be a list of tensors, one a tap, got Tensor"),
        ({"tap": a}, {"tap": b}, "defended must be a list of tensors, one a tap, got dict"),
        (None, [b], "defended must be a list of tensors, one a tap, got NoneType"),
    ):
        with pytest.raises(TypeError, match=words):
            FeatureAlignment()(first, second)
    for weights in (2.0, {"tap": 1.0}, "12"):
        with pytest.raises(TypeError, match="weights must be a list of numbers, got"):
            FeatureAlignment(weights)
    for weight in (0.0, 1.0):
        with pytest.raises(TypeError, match="input must be a tensor, got list; of several maps"):
            ChannelwiseKL(loss_weight=weight)([a], [b])


def test_losses_train_a_module() -> None:
    torch.manual_seed(0)
    layer, target = torch.nn.Conv2d(3, 5, 3, padding=1), torch.randn(4, 5, 8, 8)
    image, loss = torch.randn(4, 3, 8, 8), ChannelwiseKL(reduction="channelmean")
    optimizer = torch.optim.Adam(layer.parameters(), 0.05)
    first = last = float(loss(layer(image), target).detach())
    for _ in range(20):
        optimizer.zero_grad()
        value = loss(layer(image), target)
        value.backward()
        optimizer.step()
        last = float(value.detach())
    assert last < 0.8 * first
