from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ansm_fast.errors import InputError
from ansm_fast.models import TwoViewANSM, TwoViewConfig, load_ansm, save_ansm
from ansm_fast.models.checkpoint import save_checkpoint
from ansm_fast.models.detector import SmoothResidualFrontEnd
from ansm_fast.models.unet import UNet


def made(attacked: float | None = None, **settings) -> TwoViewANSM:
    """Weights of size tiny; ``attacked`` sets the logit of the map, the same everywhere."""
    torch.manual_seed(0)
    ansm = TwoViewANSM(TwoViewConfig(**{"variant": "tiny"} | settings))
    torch.nn.init.normal_(ansm.writer.head.weight, std=0.3)
    if attacked is None:
        torch.nn.init.normal_(ansm.detector.attacked.weight)
        torch.nn.init.normal_(ansm.detector.correction.weight)
    else:
        assert ansm.detector.attacked.bias is not None
        torch.nn.init.constant_(ansm.detector.attacked.bias, attacked)
    return ansm.eval()


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (16, 16), (17, 64), (33, 50)])
@pytest.mark.parametrize("settings", [{}, {"jpeg_quality": 0}, {"attacked_map": False}])
def test_any_size_and_a_bounded_output(size, settings) -> None:
    ansm, image = made(**settings), torch.rand(2, 3, *size)
    with torch.no_grad():
        perturbation, defended = ansm(image), ansm.defend(image)
        found = ansm.features(image)
    assert perturbation.shape == image.shape == defended.shape
    assert perturbation.abs().max() <= ansm.eps_d
    assert defended.min() >= 0 and defended.max() <= 1
    assert ansm.detected(found, size).shape == (2, 1, *size)
    score, halved = ansm.attack_score(image), tuple(-(-side // 2) for side in size)
    assert ansm.attacked_map(found, size).shape == (2, 1, *halved)
    assert score.shape == (2,) and score.min() >= 0 and score.max() <= 1


def test_what_was_not_attacked_stays_as_it_is() -> None:
    image = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        shut, open_ = made(attacked=-10.0), made(attacked=10.0)
        assert torch.equal(shut.defend(image), image)
        assert shut.attack_score(image) < 0.01 and open_.attack_score(image) > 0.99
        assert (open_.defend(image) - image).abs().max() > 0.5 * open_.eps_d
        assert torch.equal(open_.applied_map(open_.features(image)).unique(), torch.ones(1))
        without = made(attacked=-10.0, attacked_map=False)
        assert (without.defend(image) - image).abs().max() > 0.5 * without.eps_d


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_the_writer_rests_where_nothing_of_it_is_let_through() -> None:
    image, calls = torch.rand(2, 3, 40, 48), []
    for attacked, most in ((-10.0, 0), (10.0, 1)):
        ansm = made(attacked=attacked)
        hook = ansm.writer.register_forward_hook(lambda *_: calls.append(1))
        with torch.no_grad():
            found = ansm(image)
        assert len(calls) == most and found.shape == image.shape
        calls.clear()
        # The same values as with it, which a gradient asks for.
        assert torch.equal(found, ansm(image).detach()) and len(calls) == 1
        calls.clear()
        hook.remove()
        with torch.no_grad():
            # A graph takes no decision, whatever the example was.
            traced, other = torch.jit.trace(ansm, (image,)), torch.rand(1, 3, 64, 32)
            assert "writer" in str(traced.inlined_graph)
            assert torch.equal(traced(other), ansm(other))


def test_an_untrained_writer_is_neither_silent_nor_saturated() -> None:
    torch.manual_seed(0)
    ansm = TwoViewANSM(TwoViewConfig(variant="base")).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        own = ansm.perturbation(ansm.features(image), (64, 64), torch.ones(1, 1, 1, 1))
    assert 0.002 < own.abs().mean() / ansm.eps_d < 0.3


@pytest.mark.parametrize("levels", [2, 8])
def test_the_front_end_is_bounded_as_its_docstring_says(levels) -> None:
    """The sign pattern of each kernel is the noise that moves it most."""
    front_end = SmoothResidualFrontEnd()
    flat = torch.full((1, 3, 6, 6), 0.5)
    bounds = {8: (2.3, 2.6), 2: (1.42, 1.92)}[levels]
    for index, bound in enumerate(bounds):
        image = flat.clone()
        image[..., :5, :5] += front_end.kernels[index, 0].sign() * levels / 255
        found = F.pixel_shuffle(front_end(image), 2)[0, 3 + index, 2, 2].abs()
        assert bound - 0.1 < found < bound + 0.05
    assert front_end(torch.rand(1, 3, 16, 16))[:, 12:].abs().max() < 3


def test_nothing_beyond_the_receptive_field_matters() -> None:
    """What the tiles of the defence rely on."""
    ansm = made()
    image = torch.rand(1, 3, 32, ansm.receptive_field + 112)
    changed = image.clone()
    changed[..., :16] = 1 - changed[..., :16]
    with torch.no_grad():
        before, after = ansm(image), ansm(changed)
    beyond = 16 + ansm.receptive_field
    assert before.shape[3] > beyond
    assert torch.equal(before[..., beyond:], after[..., beyond:])
    assert not torch.equal(before[..., :16], after[..., :16])


def test_a_context_that_reaches_everywhere_is_the_whole_images() -> None:
    torch.manual_seed(0)
    near = UNet((8, 8, 8, 8), global_context=True, context_radius=4).eval()
    whole = UNet((8, 8, 8, 8), global_context=True).eval()
    whole.load_state_dict(near.state_dict())
    features = torch.rand(2, 36, 32, 40)  # four by five positions of the deepest level
    with torch.no_grad():
        torch.testing.assert_close(near(features), whole(features), rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_weight() -> None:
    ansm, image = made().train(), torch.rand(2, 3, 32, 32) * 0.8 + 0.1
    found = ansm.features(image)
    perturbation = ansm.perturbation(found, (32, 32))
    loss = perturbation.square().sum() + found.attacked.sum() + found.mask.square().sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in ansm.parameters())


def test_the_map_is_shut_below_and_open_above() -> None:
    ansm = made(shut_below=0.25)
    features = ansm.features(torch.rand(1, 3, 32, 32))
    probability = torch.tensor([0.0, 0.25, 0.4, 0.5, 0.75, 1.0]).view(1, 1, 1, -1)
    applied = ansm.applied_map(replace(features, attacked=torch.logit(probability)))
    torch.testing.assert_close(applied.flatten(), torch.tensor([0, 0, 0.3, 0.5, 1, 1.0]))
    for bad in (-0.1, 0.5, float("nan")):
        with pytest.raises(ValueError, match="shut_below must be"):
            made(shut_below=bad)


def test_a_checkpoint_keeps_it(tmp_path) -> None:
    ansm, image = made(jpeg_blur=0.1), torch.rand(1, 3, 32, 32)
    record = {"localizer": "abc", "attack_threshold": 0.125}
    mark = save_ansm(tmp_path / "a.safetensors", ansm, record)
    loaded = load_ansm(tmp_path / "a.safetensors")
    assert isinstance(loaded, TwoViewANSM) and loaded.config == ansm.config
    assert (loaded.fingerprint, loaded.trained_for, loaded.attack_threshold) == (mark, "abc", 0.125)
    with torch.no_grad():
        assert torch.equal(loaded(image), ansm(image)) and not loaded.training


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "three_view"}, "install a newer"),
        ({"architecture": "two_view", "variant": "huge"}, "variant must be one of tiny, base"),
        ({"architecture": "two_view", "widths": 3}, "unknown configuration"),
    ],
)
def test_a_configuration_of_another_kind_is_named(tmp_path, config, message) -> None:
    save_checkpoint(tmp_path / "a.safetensors", "ansm", config, made().state_dict())
    with pytest.raises(InputError, match=message):
        load_ansm(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"variant": "small"}, ValueError),
        ({"eps_d": 0}, ValueError),
        ({"eps_d": 12}, ValueError),
        ({"jpeg_quality": 101}, ValueError),
        ({"jpeg_blur": 0.5}, ValueError),
        ({"attacked_map": 1}, TypeError),
    ],
)
def test_an_impossible_configuration_names_its_field(settings, kind) -> None:
    with pytest.raises(kind, match=next(iter(settings))):
        TwoViewConfig(**settings)


def test_half_precision_weights_and_images() -> None:
    ansm, image = made().double(), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert ansm.defend(image).dtype == torch.float32
        assert made().defend(image.half()).dtype == torch.float16
